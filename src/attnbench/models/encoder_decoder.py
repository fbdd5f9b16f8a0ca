"""Base class of sequence-to-sequence models: embeddings and output projection, which may share weights."""

# Shapes: B batch, L length, V target vocabulary, D width of a hidden state

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.config.model import TiedEmbeddings


class EncoderDecoder(nn.Module):
    """Base class of models of p(target | source); padding stands at the end of sources and targets."""

    output: nn.Linear

    def __init__(
        self, tie_embeddings: TiedEmbeddings, d_embedding: int, *, source_vocab: int, target_vocab: int, pad: int
    ) -> None:
        super().__init__()
        if tie_embeddings is TiedEmbeddings.all and source_vocab != target_vocab:
            raise ValueError(
                f"model.tie_embeddings=all: expected one vocabulary, "
                f"got {source_vocab} source and {target_vocab} target tokens"
            )
        self.tie, self.pad = tie_embeddings, pad
        self.source_embedding = nn.Embedding(source_vocab, d_embedding, padding_idx=pad)
        self.target_embedding = (
            self.source_embedding
            if tie_embeddings is TiedEmbeddings.all
            else nn.Embedding(target_vocab, d_embedding, padding_idx=pad)
        )

    def build_output(self, d_hidden: int) -> nn.Linear:
        """Build the output projection; with tied embeddings it shares the weight of the target embedding."""
        output = nn.Linear(d_hidden, self.target_embedding.num_embeddings, bias=False)
        if self.tie is not TiedEmbeddings.none:
            output.weight = self.target_embedding.weight
        return output

    @property
    def output_weight(self) -> Tensor:
        """Weight of the output projection, weight_VD, for a loss that computes logits in chunks."""
        return self.output.weight

    @property
    def output_bias(self) -> Tensor | None:
        """None: the output projection has no bias."""
        return None

    def project(self, hidden_D: Tensor) -> Tensor:
        """Return logits_V of hidden states with any leading shape."""
        logits_V: Tensor = self.output(hidden_D)
        return logits_V


def build_token_mask(ids_BL: Tensor, pad: int) -> Tensor | None:
    """Return a bool mask, True at non-padding tokens.

    On a CPU, return None if nothing is padded. On a GPU that check would force a synchronization, so the mask is
    returned. Ids on the meta device have no values and count as tokens without padding.

    Args:
        ids_BL: token ids.
        pad: id of the padding token.
    """
    if ids_BL.device.type == "meta":
        return None
    real_BL = ids_BL != pad
    if ids_BL.device.type == "cpu" and not torch.compiler.is_compiling() and bool(real_BL.all()):
        return None
    return real_BL
