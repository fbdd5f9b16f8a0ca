"""Config of recurrent encoder-decoders: without attention, with Bahdanau's or Luong's attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import MAX_DEPTH, MAX_WIDTH, Fault, bounded_field
from attnbench.config.model import ModelConfig, TiedEmbeddings


class Cell(Enum):
    """Recurrent cell."""

    rnn = "rnn"  # tanh(W x + U h): Elman 1990
    gru = "gru"  # Cho et al. 2014, with the reset gate behind the product, as torch.nn.GRU has it
    lstm = "lstm"  # Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000


class DecoderContext(Enum):
    """Information about the source that the decoder gets."""

    initial_state = "initial_state"  # only its initial state: Sutskever et al. 2014
    fixed = "fixed"  # initial state, and the encoder's final state as an input of each step: Cho et al. 2014
    bahdanau = "bahdanau"  # attention before each step, with the previous state as query: Bahdanau et al. 2015
    luong = "luong"  # attention after each step, with the new state as query: Luong et al. 2015


class Window(Enum):
    """Source positions that Luong's attention sees: Luong et al. 2015, section 3."""

    all = "all"  # global attention
    local_m = "local_m"  # a window around the target's position: monotonic alignment
    local_p = "local_p"  # a window around a predicted position, with Gaussian weights


class Bridge(Enum):
    """Initial states of the decoder, layer by layer."""

    copy = "copy"  # the encoder's final states
    linear = "linear"  # tanh of a linear map of them, of both directions (Bahdanau et al. 2015, A.2.2: backward alone)
    zero = "zero"


@dataclass
class RecurrentConfig(ModelConfig):
    """Recurrent encoder-decoder (Sutskever et al. 2014, Cho et al. 2014), with or without attention."""

    family: str = "recurrent"
    cell: Cell = Cell.gru
    depth: int = bounded_field(2, minimum=1, maximum=MAX_DEPTH)  # layers of the encoder, and of the decoder
    d_embedding: int = bounded_field(256, minimum=1, maximum=MAX_WIDTH)
    d_hidden: int = bounded_field(
        256, minimum=1, maximum=MAX_WIDTH
    )  # of the decoder, and of each direction of the encoder
    bidirectional: bool = False  # the encoder
    # On embeddings, between the layers of a stack (never from step to step: Zaremba et al. 2014), before the output.
    dropout: float = bounded_field(0.2, minimum=0, less_than=1)
    decoder_context: DecoderContext = DecoderContext.bahdanau
    input_feeding: bool = False  # luong: a step sees the attentional state before it (Luong et al. 2015, section 3.3)
    window: Window = Window.all  # luong
    window_size: int = bounded_field(
        10, minimum=1
    )  # local windows reach this far to both sides: D of Luong et al. 2015
    bridge: Bridge = Bridge.copy
    tie_embeddings: TiedEmbeddings = TiedEmbeddings.none
    bptt: int | None = bounded_field(
        None, minimum=1
    )  # truncated backpropagation in the decoder: number of target steps; null: all
    # Scheduled sampling (Bengio et al. 2015): how likely a training step sees the reference's token before it and not
    # the model's own.
    teacher_forcing: float = bounded_field(1.0, minimum=0, maximum=1)

    def find_faults(self) -> Iterator[Fault]:
        """Check combinations that cannot be built, or that cannot learn."""
        luong = self.decoder_context is DecoderContext.luong
        if self.input_feeding and not luong:
            expected = (
                f"expected false for model.decoder_context={self.decoder_context.value}: only luong has a state to feed"
            )
            yield Fault("input_feeding", "true", expected)
        if self.window is not Window.all and not luong:
            expected = f"expected all for model.decoder_context={self.decoder_context.value}: only luong has windows"
            yield Fault("window", self.window.value, expected)
        if self.bridge is Bridge.copy and self.bidirectional:
            expected = "expected linear or zero for model.bidirectional=true: two directions do not fit into one"
            yield Fault("bridge", "copy", expected)
        if self.bridge is Bridge.zero and self.decoder_context is DecoderContext.initial_state:
            expected = (
                "expected copy or linear for model.decoder_context=initial_state: the decoder would not see the source"
            )
            yield Fault("bridge", "zero", expected)
        if self.tie_embeddings is not TiedEmbeddings.none and self.d_embedding != self.d_hidden:
            expected = f"expected none, or model.d_embedding={self.d_embedding} to be model.d_hidden={self.d_hidden}"
            yield Fault("tie_embeddings", self.tie_embeddings.value, expected)
