"""The blocks of a Transformer: residual with its norms, feed-forward network, encoder and decoder layer."""

# Shapes: B batch, T length, S length of the memory, D d_model, H heads, J hypotheses of a sentence (in decoding)

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import Activation, BlocksConfig, Norm, NormKind, TransformerConfig
from attnbench.config.position import PositionConfig
from attnbench.nn.attention import AttentionOutput, KeyValue, MultiHeadAttention
from attnbench.nn.dropout import Dropout
from attnbench.nn.norms import build_norm
from attnbench.nn.positions import Layout, build_relative
from attnbench.nn.projections import BranchEnd, PackedLinear

_LINE = Layout()


class DeepNorm(NamedTuple):
    """Weight of the residual connection (alpha), and factor of a branch's first weights (beta).

    beta is for the projections of values and output, and both layers of the feed-forward network.
    """

    alpha: float = 1.0
    beta: float = 1.0


def deepnorm(model: BlocksConfig, *, decoder: bool = False) -> DeepNorm:
    """Compute alpha and beta for a stack alone, or for an encoder with its decoder (Wang et al. 2022, Figure 2).

    Both are one for other placements. beta multiplies what `model.init` gives, as in the authors' torchscale; with
    Xavier initialization that is the figure's gain. So small a start is slow in a shallow model: with two layers and
    two, beta is 0.70 and 0.45, and the model takes some 700 updates for what post-norm learns in 280.
    """
    if model.norm is not Norm.deepnorm:
        return DeepNorm()
    encoder_layers = model.depth
    if not isinstance(model, TransformerConfig):
        return DeepNorm((2 * encoder_layers) ** 0.25, (8 * encoder_layers) ** -0.25)
    decoder_layers = model.decoder_depth or model.depth
    if decoder:
        return DeepNorm((3 * decoder_layers) ** 0.25, (12 * decoder_layers) ** -0.25)
    both = (encoder_layers**4 * decoder_layers) ** (1 / 16)
    return DeepNorm(0.81 * both, 0.87 / both)


class Residual(nn.Module):
    """The way around a sublayer: y = f(enter(x)), then leave(x, y). Says where norms and the dropout stand."""

    def __init__(self, model: BlocksConfig, alpha: float = 1.0) -> None:
        super().__init__()
        self.placement, self.alpha, self.around = model.norm, alpha, model.residual
        self.norm = build_norm(model.d_model, model.norm_kind)
        self.outer_norm = build_norm(model.d_model, model.norm_kind) if model.norm is Norm.sandwich else None
        self.dropout = Dropout(model.dropout)

    def enter(self, x_BTD: Tensor, real_BT: Tensor | None = None) -> Tensor:
        """What the sublayer sees; `real_BT` is False where a token is padding (None: nowhere)."""
        entered_BTD: Tensor = self.norm(x_BTD, real_BT) if self.placement in _ENTERS_NORMED else x_BTD
        return entered_BTD

    def leave(self, x_BTD: Tensor, y_BTD: Tensor, real_BT: Tensor | None = None) -> Tensor:
        """What the next block sees."""
        if self.outer_norm is not None:
            y_BTD = self.outer_norm(y_BTD, real_BT)
        sum_BTD: Tensor = self.dropout(y_BTD)
        if self.around:
            sum_BTD = sum_BTD + (x_BTD if self.alpha == 1.0 else self.alpha * x_BTD)
        if self.placement not in _ENTERS_NORMED:
            sum_BTD = self.norm(sum_BTD, real_BT)
        return sum_BTD


_ENTERS_NORMED = (Norm.pre, Norm.sandwich)


def final_norm(model: BlocksConfig) -> nn.Module:
    """What a stack of such blocks ends with: where sublayers see a norm, the sum of all blocks has none yet."""
    return build_norm(model.d_model, model.norm_kind if model.norm in _ENTERS_NORMED else NormKind.none)


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

    `dropout` is between the two: what follows the second is the residual's. `scale` is what the first weights are
    multiplied with (DeepNorm's beta).
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: Activation, dropout: float = 0.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.function, self.gated = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)
        parts = 2 if self.gated else 1
        self.into = PackedLinear(d_model, [d_ff] * parts, gains=[1.0] * parts, scales=[scale] * parts)
        self.out = BranchEnd(d_ff, d_model, scale)

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

    def __init__(
        self,
        model: BlocksConfig,
        attention: AttentionConfig,
        position: PositionConfig,
        layout: Layout = _LINE,
    ) -> None:
        super().__init__()
        alpha, beta = deepnorm(model)
        relative = build_relative(model.num_heads, *model.head_widths, position, layout)
        self.self_attention = MultiHeadAttention(model, attention, beta, relative)
        self.feed_forward = FeedForward(model.d_model, model.d_ff, model.activation, model.hidden_dropout, beta)
        self.around_self = Residual(model, alpha)
        self.around_feed_forward = Residual(model, alpha)

    def forward(
        self,
        x_BTD: Tensor,
        real_BT: Tensor | None = None,
        need_weights: bool = False,
        queries: int | None = None,
    ) -> AttentionOutput:
        """x_BTD one layer on, and weights_BHTT if asked for; `real_BT` is False where a token is padding.

        `queries`: only so many of the first tokens come out; the others are but attended to. For a layer without
        relative positions, whose queries are taken for the last tokens, and with a norm that sees one token at a time.
        """
        mask_B11T = None if real_BT is None else real_BT[:, None, None]
        entered_BTD, memory_BTD = self.around_self.enter(x_BTD, real_BT), None
        if queries is not None:
            entered_BTD, memory_BTD = entered_BTD[:, :queries], entered_BTD
            x_BTD, real_BT = x_BTD[:, :queries], None if real_BT is None else real_BT[:, :queries]
        y_BTD, weights_BHTT = self.self_attention(entered_BTD, memory_BTD, mask=mask_B11T, need_weights=need_weights)
        x_BTD = self.around_self.leave(x_BTD, y_BTD, real_BT)
        y_BTD = self.feed_forward(self.around_feed_forward.enter(x_BTD, real_BT))
        return AttentionOutput(self.around_feed_forward.leave(x_BTD, y_BTD, real_BT), weights_BHTT)


class DecoderOutput(NamedTuple):
    """A decoder layer's result, and its two kinds of weights if asked for."""

    context: Tensor
    self_weights: Tensor | None
    cross_weights: Tensor | None


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to a memory, a feed-forward network: Vaswani et al. 2017, section 3.1."""

    def __init__(self, model: BlocksConfig, attention: AttentionConfig, position: PositionConfig) -> None:
        super().__init__()
        alpha, beta = deepnorm(model, decoder=True)
        relative = build_relative(model.num_heads, *model.head_widths, position, _LINE)
        self.self_attention = MultiHeadAttention(model, attention, beta, relative)
        self.cross_attention = MultiHeadAttention(model, attention, beta)
        self.feed_forward = FeedForward(model.d_model, model.d_ff, model.activation, model.hidden_dropout, beta)
        self.around_self = Residual(model, alpha)
        self.around_cross = Residual(model, alpha)
        self.around_feed_forward = Residual(model, alpha)

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor,
        memory_real_BS: Tensor | None = None,
        real_BT: Tensor | None = None,
        need_weights: bool = False,
    ) -> DecoderOutput:
        """x_BTD one layer on, all places at once; weights_BHTT and weights_BHTS if asked for.

        `memory_real_BS` and `real_BT` are False where a token is padding, which in the target stands at the end.
        """
        # The target needs no padding mask: causal attention never looks at what is behind.
        y_BTD, weights_BHTT = self.self_attention(
            self.around_self.enter(x_BTD, real_BT), causal=True, need_weights=need_weights
        )
        x_BTD = self.around_self.leave(x_BTD, y_BTD, real_BT)
        x_BTD, weights_BHTS = self._attend_and_feed(x_BTD, memory_BSD, memory_real_BS, real_BT, need_weights)
        return DecoderOutput(x_BTD, weights_BHTT, weights_BHTS)

    def step(
        self, x_BJD: Tensor, past: KeyValue | None, memory: KeyValue, memory_real_BS: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """x_BJD one layer on: the next place alone of J hypotheses of each sentence; and their past with it."""
        y_BJD, past = self.self_attention.step(self.around_self.enter(x_BJD), past)
        x_BJD = self.around_self.leave(x_BJD, y_BJD)
        # A sentence's hypotheses have its memory in common: to cross-attention they are J queries.
        return self._attend_and_feed(x_BJD, memory, memory_real_BS, None, need_weights=False).context, past

    def _attend_and_feed(
        self,
        x_BTD: Tensor,
        memory: Tensor | KeyValue,
        memory_real_BS: Tensor | None,
        real_BT: Tensor | None,
        need_weights: bool,
    ) -> AttentionOutput:
        mask_B11S = None if memory_real_BS is None else memory_real_BS[:, None, None]
        y_BTD, weights_BHTS = self.cross_attention(
            self.around_cross.enter(x_BTD, real_BT), memory, mask=mask_B11S, need_weights=need_weights
        )
        x_BTD = self.around_cross.leave(x_BTD, y_BTD, real_BT)
        y_BTD = self.feed_forward(self.around_feed_forward.enter(x_BTD, real_BT))
        return AttentionOutput(self.around_feed_forward.leave(x_BTD, y_BTD, real_BT), weights_BHTS)
