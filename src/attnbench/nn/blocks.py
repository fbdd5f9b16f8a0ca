"""The blocks of a Transformer: residual with its norm, feed-forward network, encoder and decoder layer."""

# Shapes: B batch, T length, S length of the memory, D d_model, H heads, J hypotheses of a sentence (in decoding)

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import Activation, BlocksConfig, Norm
from attnbench.nn.attention import AttentionOutput, KeyValue, MultiHeadAttention
from attnbench.nn.dropout import Dropout
from attnbench.nn.packed import BranchEnd, PackedLinear


class Residual(nn.Module):
    """The way around a sublayer: y = f(enter(x)), then leave(x, y). Says where the norm and the dropout stand."""

    def __init__(self, d_model: int, norm: Norm, dropout: float) -> None:
        super().__init__()
        self.placement = norm
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def enter(self, x_BTD: Tensor) -> Tensor:
        """What the sublayer sees."""
        entered_BTD: Tensor = self.norm(x_BTD) if self.placement is Norm.pre else x_BTD
        return entered_BTD

    def leave(self, x_BTD: Tensor, y_BTD: Tensor) -> Tensor:
        """What the next block sees."""
        sum_BTD: Tensor = x_BTD + self.dropout(y_BTD)
        if self.placement is Norm.post:
            sum_BTD = self.norm(sum_BTD)
        return sum_BTD


def final_norm(d_model: int, norm: Norm) -> nn.Module:
    """What a stack of such blocks ends with: pre-norm leaves the sum of all blocks without a norm."""
    return nn.LayerNorm(d_model) if norm is Norm.pre else nn.Identity()


class Nonlinearity(NamedTuple):
    """A function, and whether it gates a second projection: f(x W) * (x V), Shazeer 2020, equation 6."""

    function: Callable[[Tensor], Tensor]
    gated: bool


ACTIVATIONS: dict[Activation, Nonlinearity] = {
    Activation.relu: Nonlinearity(F.relu, gated=False),
    Activation.gelu: Nonlinearity(F.gelu, gated=False),
    Activation.geglu: Nonlinearity(F.gelu, gated=True),
    Activation.swiglu: Nonlinearity(F.silu, gated=True),
}


class FeedForward(nn.Module):
    """Two layers at each place: Vaswani et al. 2017, equation 2. A gated one has d_ff gates beside.

    `dropout` is between the two: what follows the second is the residual's.
    """

    def __init__(self, d_model: int, d_ff: int, activation: Activation, dropout: float = 0.0) -> None:
        super().__init__()
        self.function, self.gated = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)
        self.into = PackedLinear(d_model, d_ff, parts=2 if self.gated else 1)
        self.out = BranchEnd(d_ff, d_model)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """y_BTD."""
        hidden: Tensor = self.into(x_BTD)
        if self.gated:
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = self.function(gate) * hidden
        else:
            hidden = self.function(hidden)
        y_BTD: Tensor = self.out(self.dropout(hidden))
        return y_BTD


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network: Vaswani et al. 2017, section 3.1."""

    def __init__(self, model: BlocksConfig, attention: AttentionConfig) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(model.d_model, model.num_heads, attention)
        self.feed_forward = FeedForward(model.d_model, model.d_ff, model.activation, model.hidden_dropout)
        self.around_self = Residual(model.d_model, model.norm, model.dropout)
        self.around_feed_forward = Residual(model.d_model, model.norm, model.dropout)

    def forward(self, x_BTD: Tensor, mask: Tensor | None, need_weights: bool = False) -> AttentionOutput:
        """x_BTD one layer on, and weights_BHTT if asked for."""
        y_BTD, weights_BHTT = self.self_attention(self.around_self.enter(x_BTD), mask=mask, need_weights=need_weights)
        x_BTD = self.around_self.leave(x_BTD, y_BTD)
        y_BTD = self.feed_forward(self.around_feed_forward.enter(x_BTD))
        return AttentionOutput(self.around_feed_forward.leave(x_BTD, y_BTD), weights_BHTT)


class DecoderOutput(NamedTuple):
    """A decoder layer's result, and its two kinds of weights if asked for."""

    context: Tensor
    self_weights: Tensor | None
    cross_weights: Tensor | None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to a memory, a feed-forward network: Vaswani et al. 2017, section 3.1."""

    def __init__(self, model: BlocksConfig, attention: AttentionConfig) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(model.d_model, model.num_heads, attention)
        self.cross_attention = MultiHeadAttention(model.d_model, model.num_heads, attention)
        self.feed_forward = FeedForward(model.d_model, model.d_ff, model.activation, model.hidden_dropout)
        self.around_self = Residual(model.d_model, model.norm, model.dropout)
        self.around_cross = Residual(model.d_model, model.norm, model.dropout)
        self.around_feed_forward = Residual(model.d_model, model.norm, model.dropout)

    def forward(
        self, x_BTD: Tensor, memory_BSD: Tensor, memory_mask: Tensor | None, need_weights: bool = False
    ) -> DecoderOutput:
        """x_BTD one layer on, all places at once; weights_BHTT and weights_BHTS if asked for."""
        y_BTD, weights_BHTT = self.self_attention(self.around_self.enter(x_BTD), causal=True, need_weights=need_weights)
        x_BTD = self.around_self.leave(x_BTD, y_BTD)
        x_BTD, weights_BHTS = self._attend_and_feed(x_BTD, memory_BSD, memory_mask, need_weights)
        return DecoderOutput(x_BTD, weights_BHTT, weights_BHTS)

    def step(
        self, x_BJD: Tensor, past: KeyValue | None, memory: KeyValue, memory_mask: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """x_BJD one layer on: the next place alone of J hypotheses of each sentence; and their past with it."""
        y_BJD, past = self.self_attention.step(self.around_self.enter(x_BJD), past)
        x_BJD = self.around_self.leave(x_BJD, y_BJD)
        # A sentence's hypotheses have its memory in common: to cross-attention they are J queries.
        return self._attend_and_feed(x_BJD, memory, memory_mask, need_weights=False).context, past

    def _attend_and_feed(
        self, x_BTD: Tensor, memory: Tensor | KeyValue, memory_mask: Tensor | None, need_weights: bool
    ) -> AttentionOutput:
        y_BTD, weights_BHTS = self.cross_attention(
            self.around_cross.enter(x_BTD), memory, mask=memory_mask, need_weights=need_weights
        )
        x_BTD = self.around_cross.leave(x_BTD, y_BTD)
        y_BTD = self.feed_forward(self.around_feed_forward.enter(x_BTD))
        return AttentionOutput(self.around_feed_forward.leave(x_BTD, y_BTD), weights_BHTS)
