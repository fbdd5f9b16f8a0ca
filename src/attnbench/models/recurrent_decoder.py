"""The parts of a recurrent encoder-decoder: stacks of cells, attention to the source, and the decoder of both."""

# Shapes: B batch, S source length, L target steps read at once, E d_embedding, H d_hidden, M width of the memory,
#         J hypotheses of a sentence (in decoding; else one), N = B x J, Q = J x L queries of a sentence,
#         P directions of a layer, I width of a stack's input

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.recurrent import Attend, Bridge, Cell, RecurrentConfig, Window
from attnbench.models.recurrent_cells import LayerState, Stack, Weights
from attnbench.nn.attention import Attention, AttentionOutput
from attnbench.nn.autocast import to_exact, without_autocast
from attnbench.nn.dropout import Dropout
from attnbench.nn.gradient_buffer import share


class Memory(NamedTuple):
    """The encoder's view of the source, a row a sentence."""

    hidden_B1SM: Tensor  # zero where the source is padding
    keys_B1SA: Tensor | None  # the same, as attention's score wants it; None: no attention
    mask_B11S: Tensor | None  # True where it is real; None: everywhere
    lengths_B: Tensor
    final_BM: Tensor  # the top layer's last state, of both directions

    def select(self, sentences_B: Tensor) -> Memory:
        """The given sentences, in the given order."""
        mask_B11S = None if self.mask_B11S is None else self.mask_B11S.index_select(0, sentences_B)
        hidden_B1SM, lengths_B, final_BM = (
            tensor.index_select(0, sentences_B) for tensor in (self.hidden_B1SM, self.lengths_B, self.final_BM)
        )
        keys_B1SA = None if self.keys_B1SA is None else self.keys_B1SA.index_select(0, sentences_B)
        return Memory(hidden_B1SM, keys_B1SA, mask_B11S, lengths_B, final_BM)


class State(NamedTuple):
    """Where a decoder stands, a row a hypothesis."""

    layers: list[LayerState]
    fed_N1H: Tensor | None  # the attentional state of the step before, where input feeding wants it
    place: int  # how many target tokens it has read

    def select(self, rows_N: Tensor) -> State:
        """The given rows, in the given order."""
        layers = [tuple(tensor.index_select(1, rows_N) for tensor in layer) for layer in self.layers]
        return State(layers, None if self.fed_N1H is None else self.fed_N1H.index_select(0, rows_N), self.place)

    def detach(self) -> State:
        """The same, with no gradient to how it came about."""
        layers = [tuple(tensor.detach() for tensor in layer) for layer in self.layers]
        return State(layers, None if self.fed_N1H is None else self.fed_N1H.detach(), self.place)


class Handover(nn.Module):
    """From the encoder's final states to the decoder's first, layer by layer: `Bridge` says how."""

    def __init__(self, d_memory: int, model: RecurrentConfig) -> None:
        super().__init__()
        self.bridge, self.d_hidden = model.bridge, model.d_hidden
        if model.bridge is Bridge.linear:
            states = 2 if model.cell is Cell.lstm else 1
            self.maps = nn.ModuleList(
                nn.Linear(d_memory, model.d_hidden, bias=False) for _ in range(states * model.depth)
            )

    def forward(self, finals: list[LayerState]) -> list[LayerState]:
        """h_1BH (and c_1BH) of each layer from final states h_PBH (and c_PBH), which count alike."""
        number = itertools.count()
        return [tuple(self._first(side_by_side(final_PBH), next(number)) for final_PBH in layer) for layer in finals]

    def _first(self, final_BM: Tensor, number: int) -> Tensor:
        if self.bridge is Bridge.zero:
            return final_BM.new_zeros(1, len(final_BM), self.d_hidden)
        first_BH = torch.tanh(self.maps[number](final_BM)) if self.bridge is Bridge.linear else final_BM
        return first_BH.unsqueeze(0)


def side_by_side(state_PBH: Tensor) -> Tensor:
    """state_BM: the directions of a sentence in one row."""
    return state_PBH.transpose(0, 1).flatten(1)


class SourceAttention(nn.Module):
    """Attention of the decoder's states to the source's: to all, or to a window (Luong et al. 2015, section 3.2).

    A window reaches `window_size` to both sides of a place and ends with the sentence; a query whose window lies
    wholly behind it gets zeros. Places count from zero, on the source's tokens as the encoder reads them.
    """

    def __init__(self, d_memory: int, model: RecurrentConfig, attention: AttentionConfig) -> None:
        super().__init__()
        self.attention = Attention(model.d_hidden, d_memory, attention)
        self.window, self.window_size = model.window, model.window_size
        if model.window is Window.local_p:
            self.place_hidden = nn.Linear(model.d_hidden, model.d_hidden, bias=False)
            self.place = nn.Linear(model.d_hidden, 1, bias=False)

    def forward(
        self, queries_BQH: Tensor, places_Q: Tensor, memory: Memory, need_weights: bool = False
    ) -> AttentionOutput:
        """context_B1QM and, if asked for, weights_B1QS.

        `places_Q` are the queries' own places in the target (one of them: the place of all).
        """
        assert memory.keys_B1SA is not None
        mask, emphasis = memory.mask_B11S, None
        if self.window is not Window.all:
            offset_B1QS = self._offset(queries_BQH, places_Q, memory)
            near_B1QS = offset_B1QS.abs() <= self.window_size
            mask = near_B1QS if mask is None else mask & near_B1QS
            if self.window is Window.local_p:
                # Equation 10: the Gaussian multiplies the weights, which then sum to less than one.
                emphasis = torch.exp(-2 * (offset_B1QS / self.window_size).square())
        found: AttentionOutput = self.attention(
            queries_BQH.unsqueeze(1),
            memory.keys_B1SA,
            memory.hidden_B1SM,
            mask=mask,
            emphasis=emphasis,
            need_weights=need_weights,
        )
        return found

    def _offset(self, queries_BQH: Tensor, places_Q: Tensor, memory: Memory) -> Tensor:
        """How far right of a query's place p each place of the source lies; p is the target's, or equation 9's."""
        source_S = torch.arange(memory.hidden_B1SM.shape[2], device=places_Q.device)
        if self.window is Window.local_m:
            return source_S - places_Q[:, None]
        # In float32 at least: with 8 bits, the places of a sentence of 200 tokens are up to half a token off.
        with without_autocast(queries_BQH.device.type):
            share_BQ1: Tensor = self.place(torch.tanh(self.place_hidden(to_exact(queries_BQH)))).sigmoid()
        place_BQ1 = memory.lengths_B[:, None, None] * share_BQ1
        return (source_S - place_BQ1).unsqueeze(1)


class DecoderOutput(NamedTuple):
    """Hidden states to predict from, where the decoder then stands, and weights_B1QS if asked for and there are any."""

    hidden_NLH: Tensor
    state: State
    weights_B1QS: Tensor | None


class AttentiveDecoder(nn.Module):
    """Cells that read the target, and what they see of the source besides."""

    def __init__(self, d_memory: int, model: RecurrentConfig, attention: AttentionConfig) -> None:
        super().__init__()
        self.attend, self.input_feeding = model.attend, model.input_feeding
        beside = {Attend.none: d_memory, Attend.bahdanau: d_memory, Attend.luong: model.input_feeding * model.d_hidden}
        self.cells = Stack(model, model.d_embedding + beside.get(model.attend, 0))
        self.dropout = Dropout(model.dropout)
        if self.attends:
            self.source_attention = SourceAttention(d_memory, model, attention)
        if model.attend is Attend.luong:
            self.combine = nn.Linear(d_memory + model.d_hidden, model.d_hidden, bias=False)

    @property
    def attends(self) -> bool:
        """Whether there is attention at all."""
        return self.attend in (Attend.bahdanau, Attend.luong)

    @property
    def stepwise(self) -> bool:
        """Whether a step needs to know what the one before attended to, so that `forward` takes one at a time."""
        return self.attend is Attend.bahdanau or self.input_feeding

    def prepare(self, hidden_B1SM: Tensor) -> Tensor | None:
        """keys_B1SA of a memory, made once for all steps."""
        return share(self.source_attention.attention.score.prepare(hidden_B1SM)) if self.attends else None

    def start(self, layers: list[LayerState]) -> State:
        """Before the first token, in the given states; the attentional state before it is zero."""
        h_1NH = layers[-1][0]
        return State(layers, torch.zeros_like(h_1NH).transpose(0, 1) if self.input_feeding else None, 0)

    def forward(self, x_NLE: Tensor, state: State, memory: Memory, need_weights: bool = False) -> DecoderOutput:
        """Go on from `state` by L embedded target tokens of each hypothesis."""
        weights = self.cells.weights()
        outputs: list[DecoderOutput] = []
        for x_NCE in torch.split(x_NLE, 1 if self.stepwise else x_NLE.shape[1], dim=1):
            outputs.append(self._read(x_NCE, state, memory, weights, need_weights))
            state = outputs[-1].state
        looked = [output.weights_B1QS for output in outputs if output.weights_B1QS is not None]
        return DecoderOutput(
            torch.cat([output.hidden_NLH for output in outputs], dim=1),
            state,
            torch.cat(looked, dim=2) if looked else None,
        )

    def _read(
        self, x_NLE: Tensor, state: State, memory: Memory, weights: list[list[Weights]] | None, need_weights: bool
    ) -> DecoderOutput:
        inputs, looked = [x_NLE], AttentionOutput(x_NLE, None)
        rows, steps, _ = x_NLE.shape
        if self.attend is Attend.none:
            final_BJLM = memory.final_BM[:, None, None].expand(-1, rows // len(memory.final_BM), steps, -1)
            inputs.append(final_BJLM.flatten(0, 1))
        elif self.attend is Attend.bahdanau:
            looked = self._look(state.layers[-1][0].transpose(0, 1), state.place, memory, need_weights)
            inputs.append(looked.context)
        elif state.fed_N1H is not None:
            inputs.append(state.fed_N1H)
        hidden_NLH, layers = self.cells(torch.cat(inputs, dim=-1), state.layers, weights)
        if self.attend is Attend.luong:
            looked = self._look(hidden_NLH, state.place, memory, need_weights)
            # Equation 5: the attentional state.
            hidden_NLH = torch.tanh(self.combine(torch.cat((looked.context, hidden_NLH), dim=-1)))
        after = State(layers, hidden_NLH if self.input_feeding else None, state.place + steps)
        return DecoderOutput(self.dropout(hidden_NLH), after, looked.weights)

    def _look(self, queries_NLH: Tensor, place: int, memory: Memory, need_weights: bool) -> AttentionOutput:
        """context_NLM and, if asked for, weights_B1QS of queries at `place` and the places behind it."""
        rows, steps, width = queries_NLH.shape
        places_L = torch.arange(place, place + steps, device=queries_NLH.device)
        queries_BQH = queries_NLH.reshape(len(memory.hidden_B1SM), -1, width)
        found: AttentionOutput = self.source_attention(queries_BQH, places_L, memory, need_weights)
        return AttentionOutput(found.context.reshape(rows, steps, -1), found.weights)
