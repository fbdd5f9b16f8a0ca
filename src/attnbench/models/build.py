"""From a config to its network, with random weights."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from attnbench.config import Config
from attnbench.config.model import TransformerConfig
from attnbench.models.decoding import Decodable
from attnbench.models.transformer import Transformer


class SequenceToSequence(Decodable, Protocol):
    """A network, beside being an nn.Module, that the translation task can train."""

    @property
    def output_weight(self) -> Tensor:
        """The output projection weight_VD."""
        ...

    @property
    def output_bias(self) -> Tensor | None:
        """Its bias_V, if it has one."""
        ...


def build_model(config: Config, *, source_vocab: int, target_vocab: int, pad: int = 0) -> SequenceToSequence:
    """The sequence-to-sequence model that `config.model` describes."""
    model = config.model
    if isinstance(model, TransformerConfig):
        return Transformer(
            model, config.attention, config.position, source_vocab=source_vocab, target_vocab=target_vocab, pad=pad
        )
    raise TypeError(f"model={model.family}: not a sequence-to-sequence model")
