"""FLOPs of sequence-to-sequence models by formula, because every batch has other lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

METHOD = (
    "hand count: 2 per multiply-add of each matrix product of encoder, decoder and output projection;"
    " attention over the whole square, causal or not; backward = 2 x forward; the rest not counted"
)


class ModelSize(Protocol):
    """Protocol of a model size that FLOPs can be computed from."""

    def count_forward_flops(self, source_len: float, target_len: float) -> float:
        """Return the FLOPs of one forward pass over a pair with these lengths.

        Args:
            source_len: source tokens.
            target_len: target tokens.
        """
        ...


def count_training_flops(size: ModelSize, source_len: float, target_len: float) -> float:
    """Return the FLOPs of one forward and backward pass: the gradient of a product is two products of its size.

    Args:
        size: sizes of the model.
        source_len: source tokens.
        target_len: target tokens.
    """
    return 3 * size.count_forward_flops(source_len, target_len)


@dataclass(frozen=True)
class ScoreSize:
    """Cost of a scoring function."""

    kind: Literal["dot", "bilinear", "additive", "none"] = "dot"
    hidden: int = 0  # width of an additive score's hidden layer

    def count_flops(self, queries: float, keys: float, d_q: float, d_k: float, heads: int = 1) -> float:
        """Return the FLOPs of the scores of all heads.

        Args:
            queries: number of queries.
            keys: number of keys.
            d_q: width of a query.
            d_k: width of a key.
            heads: number of heads.
        """
        if self.kind == "none":
            return 0.0
        if self.kind == "additive":
            into_hidden = 2.0 * (queries * d_q + keys * d_k) * self.hidden
            return heads * (into_hidden + 2.0 * queries * keys * self.hidden)
        projection = 2.0 * queries * d_q * d_k if self.kind == "bilinear" else 0.0
        return heads * (projection + 2.0 * queries * keys * d_k)


@dataclass(frozen=True)
class TransformerSize:
    """Sizes of an encoder-decoder Transformer."""

    d_model: int
    d_ff: int
    num_heads: int
    encoder_depth: int
    decoder_depth: int
    target_vocab: int
    is_gated: bool = False  # gated feed-forward network, with a second input projection
    score: ScoreSize = ScoreSize()
    d_k: int | None = None  # of a head's keys and values; None: d_model / num_heads
    d_v: int | None = None
    num_distances: int = 0  # relative positions with learned keys and values

    def count_forward_flops(self, source_len: float, target_len: float) -> float:
        """Return the FLOPs of one forward pass over a pair with these lengths.

        Args:
            source_len: source tokens.
            target_len: target tokens.
        """
        feed_forward = (3 if self.is_gated else 2) * 2.0 * self.d_model * self.d_ff
        d_k, d_v = (width or self.d_model / self.num_heads for width in (self.d_k, self.d_v))
        into_key, into_value = (2.0 * self.d_model * self.num_heads * width for width in (d_k, d_v))
        # Projections of queries and keys, then of values and outputs.
        own = 2 * into_key + 2 * into_value
        encoder = source_len * (own + feed_forward) + self._count_attention_flops(
            source_len, source_len, d_k, d_v, self.num_distances
        )
        decoder = (
            target_len * (own + into_key + into_value + feed_forward)
            + source_len * (into_key + into_value)  # of the memory
            + self._count_attention_flops(target_len, target_len, d_k, d_v, self.num_distances)
            + self._count_attention_flops(target_len, source_len, d_k, d_v)
        )
        output = 2.0 * target_len * self.d_model * self.target_vocab
        return self.encoder_depth * encoder + self.decoder_depth * decoder + output

    def _count_attention_flops(self, queries: float, keys: float, d_k: float, d_v: float, distances: int = 0) -> float:
        """Return the FLOPs of the scores of all heads and of the weighted sum of values."""
        of_distances = 2.0 * queries * distances * (d_k + d_v) * self.num_heads
        of_values = 2.0 * queries * keys * d_v * self.num_heads
        return self.score.count_flops(queries, keys, d_k, d_k, self.num_heads) + of_values + of_distances


@dataclass(frozen=True)
class RecurrentSize:
    """Sizes of a recurrent encoder-decoder; windows of attention and the state bridge are not counted."""

    num_gates: int  # of a cell: 1, 3 or 4
    d_embedding: int
    d_hidden: int
    depth: int
    target_vocab: int
    num_directions: int = 1  # of the encoder
    reads_context: bool = True  # whether the decoder's cell sees a context beside the token
    has_input_feeding: bool = False  # whether it also reads the attentional state
    has_attention: bool = True
    has_attentional_layer: bool = False  # a layer that joins state and context: Luong et al. 2015, equation 5
    score: ScoreSize = ScoreSize()

    def count_forward_flops(self, source_len: float, target_len: float) -> float:
        """Return the FLOPs of one forward pass over a pair with these lengths.

        Args:
            source_len: source tokens.
            target_len: target tokens.
        """
        memory = self.num_directions * self.d_hidden
        into = self.d_embedding + memory * self.reads_context + self.d_hidden * self.has_input_feeding
        total = source_len * self.num_directions * self._count_stack_flops(self.d_embedding, memory) + target_len * (
            self._count_stack_flops(into, self.d_hidden) + 2.0 * self.d_hidden * self.target_vocab
        )
        if self.has_attention:
            total += self.score.count_flops(target_len, source_len, self.d_hidden, memory)
            total += 2.0 * target_len * source_len * memory
        if self.has_attentional_layer:
            total += target_len * 2.0 * (memory + self.d_hidden) * self.d_hidden
        return total

    def _count_stack_flops(self, first: float, between: float) -> float:
        """Return the FLOPs of one step of all layers of one direction.

        The first layer reads `first` numbers, the others `between`.
        """
        inputs = first + (self.depth - 1) * between
        return 2.0 * self.num_gates * self.d_hidden * (inputs + self.depth * self.d_hidden)
