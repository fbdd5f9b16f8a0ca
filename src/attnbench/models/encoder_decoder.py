"""What every sequence-to-sequence model has: embeddings and an output projection, which may be one and the same."""

# Shapes: B batch, L length, V target vocabulary, D width of a hidden state

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.config.model import Tie


class EncoderDecoder(nn.Module):
    """p(target | source), token by token. Padding stands at the end of a sequence, source and target alike."""

    output: nn.Linear

    def __init__(self, tie: Tie, d_embedding: int, *, source_vocab: int, target_vocab: int, pad: int) -> None:
        super().__init__()
        if tie is Tie.all and source_vocab != target_vocab:
            raise ValueError(
                f"model.tie=all: expected one vocabulary, got {source_vocab} source and {target_vocab} target tokens"
            )
        self.tie, self.pad = tie, pad
        self.source_embedding = nn.Embedding(source_vocab, d_embedding, padding_idx=pad)
        self.target_embedding = (
            self.source_embedding if tie is Tie.all else nn.Embedding(target_vocab, d_embedding, padding_idx=pad)
        )

    def build_output(self, d_hidden: int) -> nn.Linear:
        """The output projection, which is the target embedding if they are tied."""
        output = nn.Linear(d_hidden, self.target_embedding.num_embeddings, bias=False)
        if self.tie is not Tie.none:
            output.weight = self.target_embedding.weight
        return output

    @property
    def output_weight(self) -> Tensor:
        """The output projection weight_VD, for a loss that projects only what it needs."""
        return self.output.weight

    @property
    def output_bias(self) -> Tensor | None:
        """The output projection has none."""
        return None

    def project(self, hidden_D: Tensor) -> Tensor:
        """logits_V of hidden states, of whatever leading shape."""
        logits_V: Tensor = self.output(hidden_D)
        return logits_V


def real_tokens(ids_BL: Tensor, pad: int) -> Tensor | None:
    """real_BL, False where a token is padding; None if none is, where asking is free: on a GPU it would wait for it."""
    real_BL = ids_BL != pad
    if ids_BL.device.type == "cpu" and not torch.compiler.is_compiling() and bool(real_BL.all()):
        return None
    return real_BL
