"""Floating-point operations of sequence-to-sequence models, counted by hand: every batch has other lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

METHOD = (
    "hand count: 2 per multiply-add of each matrix product of encoder, decoder and output projection;"
    " attention over the whole square, causal or not; backward = 2 x forward; the rest not counted"
)


class Size(Protocol):
    """What a count needs to know of a model."""

    def forward_flops(self, source_len: float, target_len: float) -> float:
        """FLOPs of one forward pass over a pair of so many tokens."""
        ...


def training_flops(size: Size, source_len: float, target_len: float) -> float:
    """FLOPs of one forward and backward pass: the gradient of a product is two products of its size."""
    return 3 * size.forward_flops(source_len, target_len)


@dataclass(frozen=True)
class ScoreSize:
    """What matching queries with keys costs."""

    kind: Literal["dot", "bilinear", "additive", "none"] = "dot"
    hidden: int = 0  # width of an additive score's hidden layer

    def flops(self, queries: float, keys: float, d_q: float, d_k: float, heads: int = 1) -> float:
        """FLOPs of the scores of all heads, whose queries and keys have these widths."""
        if self.kind == "none":
            return 0.0
        if self.kind == "additive":
            into_hidden = 2.0 * (queries * d_q + keys * d_k) * self.hidden
            return heads * (into_hidden + 2.0 * queries * keys * self.hidden)
        projection = 2.0 * queries * d_q * d_k if self.kind == "bilinear" else 0.0
        return heads * (projection + 2.0 * queries * keys * d_k)


@dataclass(frozen=True)
class TransformerSize:
    """An encoder-decoder Transformer."""

    d_model: int
    d_ff: int
    num_heads: int
    encoder_depth: int
    decoder_depth: int
    target_vocab: int
    gated: bool = False  # a feed-forward network with a second projection in
    score: ScoreSize = ScoreSize()
    d_k: int | None = None  # of a head's keys and values; None: d_model / num_heads
    d_v: int | None = None
    distances: int = 0  # that self-attention has keys and values of their own for

    def forward_flops(self, source_len: float, target_len: float) -> float:
        """FLOPs of one forward pass over a pair of so many tokens."""
        feed_forward = (3 if self.gated else 2) * 2.0 * self.d_model * self.d_ff
        d_k, d_v = (width or self.d_model / self.num_heads for width in (self.d_k, self.d_v))
        into_key, into_value = (2.0 * self.d_model * self.num_heads * width for width in (d_k, d_v))
        # Queries and keys; values, and the way out.
        own = 2 * into_key + 2 * into_value
        encoder = source_len * (own + feed_forward) + self._attention(source_len, source_len, d_k, d_v, self.distances)
        decoder = (
            target_len * (own + into_key + into_value + feed_forward)
            + source_len * (into_key + into_value)  # of the memory
            + self._attention(target_len, target_len, d_k, d_v, self.distances)
            + self._attention(target_len, source_len, d_k, d_v)
        )
        output = 2.0 * target_len * self.d_model * self.target_vocab
        return self.encoder_depth * encoder + self.decoder_depth * decoder + output

    def _attention(self, queries: float, keys: float, d_k: float, d_v: float, distances: int = 0) -> float:
        """Scores of all heads, and the weighted sum of values."""
        of_distances = 2.0 * queries * distances * (d_k + d_v) * self.num_heads
        of_values = 2.0 * queries * keys * d_v * self.num_heads
        return self.score.flops(queries, keys, d_k, d_k, self.num_heads) + of_values + of_distances


@dataclass(frozen=True)
class RecurrentSize:
    """A recurrent encoder-decoder. What a window of attention and the bridge cost is not counted."""

    gates: int  # of a cell: 1, 3 or 4
    d_embedding: int
    d_hidden: int
    depth: int
    target_vocab: int
    directions: int = 1  # of the encoder
    context: bool = True  # whether the decoder's cell sees a context beside the token
    fed: bool = False  # and its attentional state
    attends: bool = True
    attentional: bool = False  # a layer that joins state and context: Luong et al. 2015, equation 5
    score: ScoreSize = ScoreSize()

    def forward_flops(self, source_len: float, target_len: float) -> float:
        """FLOPs of one forward pass over a pair of so many tokens."""
        memory = self.directions * self.d_hidden
        into = self.d_embedding + memory * self.context + self.d_hidden * self.fed
        total = source_len * self.directions * self._stack(self.d_embedding, memory) + target_len * (
            self._stack(into, self.d_hidden) + 2.0 * self.d_hidden * self.target_vocab
        )
        if self.attends:
            total += self.score.flops(target_len, source_len, self.d_hidden, memory)
            total += 2.0 * target_len * source_len * memory
        if self.attentional:
            total += target_len * 2.0 * (memory + self.d_hidden) * self.d_hidden
        return total

    def _stack(self, first: float, between: float) -> float:
        """One step of every layer of one direction: the first reads `first` numbers, the others `between`."""
        inputs = first + (self.depth - 1) * between
        return 2.0 * self.gates * self.d_hidden * (inputs + self.depth * self.d_hidden)
