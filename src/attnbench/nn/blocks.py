"""Blocks of a Transformer: residual connection with norms, feed-forward network, encoder and decoder layer."""

# Shapes: B batch, T length, S length of the memory, D d_model, H heads, J hypotheses of a sentence (in decoding)

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import Activation, BlocksConfig, NormPlacement, NormType, TransformerConfig
from attnbench.config.position import PositionConfig
from attnbench.nn.attention import AttentionOutput, KeyValue, MultiHeadAttention
from attnbench.nn.dropout import Dropout
from attnbench.nn.norms import build_norm
from attnbench.nn.positions import TokenLayout, build_relative_position
from attnbench.nn.projections import PackedLinear, ResidualProjection

_SEQUENCE = TokenLayout()


class DeepNorm(NamedTuple):
    """Constants of DeepNorm: weight of the residual connection (alpha), factor of the initial weights (beta).

    beta applies to the projections of values and outputs, and to both layers of the feed-forward network.
    """

    alpha: float = 1.0
    beta: float = 1.0


def compute_deepnorm(model: BlocksConfig, *, decoder: bool = False) -> DeepNorm:
    """Compute alpha and beta for one stack, or for an encoder with its decoder (Wang et al. 2022, Figure 2).

    beta multiplies the weights that `model.init` gives, as in the authors' torchscale; with Xavier initialization it
    is the figure's gain. Shallow models train slowly with it: with two encoder and two decoder layers beta is 0.70
    and 0.45, and the model needs about 700 updates where post-norm needs 280.

    Args:
        model: depth of the stacks, and where the norms stand.
        decoder: True for the decoder of an encoder-decoder model.

    Returns:
        alpha and beta; both 1 if `model.norm_placement` is not deepnorm.
    """
    if model.norm_placement is not NormPlacement.deepnorm:
        return DeepNorm()
    encoder_layers = model.depth
    if not isinstance(model, TransformerConfig):
        return DeepNorm((2 * encoder_layers) ** 0.25, (8 * encoder_layers) ** -0.25)
    decoder_layers = model.decoder_depth or model.depth
    if decoder:
        return DeepNorm((3 * decoder_layers) ** 0.25, (12 * decoder_layers) ** -0.25)
    both = (encoder_layers**4 * decoder_layers) ** (1 / 16)
    return DeepNorm(0.81 * both, 0.87 / both)


class ResidualConnection(nn.Module):
    """Residual connection around a sublayer f: y = f(apply_pre_norm(x)), then add_and_norm(x, y).

    `model.norm_placement` says where the norms stand.
    """

    def __init__(self, model: BlocksConfig, alpha: float = 1.0) -> None:
        super().__init__()
        self.placement, self.alpha, self.has_skip = model.norm_placement, alpha, model.residual
        self.norm = build_norm(model.d_model, model.norm_type)
        self.outer_norm = (
            build_norm(model.d_model, model.norm_type) if model.norm_placement is NormPlacement.sandwich else None
        )
        self.dropout = Dropout(model.dropout)

    def apply_pre_norm(self, x_BTD: Tensor, token_mask_BT: Tensor | None = None) -> Tensor:
        """Compute the input of the sublayer.

        Args:
            x_BTD: residual stream.
            token_mask_BT: False at padding tokens; None when there are none.

        Returns:
            x_BTD, normalized for pre-norm and sandwich norm.
        """
        normed_BTD: Tensor = self.norm(x_BTD, token_mask_BT) if self.placement in _PRE_NORM_PLACEMENTS else x_BTD
        return normed_BTD

    def add_and_norm(self, x_BTD: Tensor, y_BTD: Tensor, token_mask_BT: Tensor | None = None) -> Tensor:
        """Add the output of the sublayer to the residual stream, and normalize the sum for post-norm and DeepNorm.

        Args:
            x_BTD: input of the residual connection.
            y_BTD: output of the sublayer.
            token_mask_BT: False at padding tokens; None when there are none.

        Returns:
            Input of the next residual connection.
        """
        if self.outer_norm is not None:
            y_BTD = self.outer_norm(y_BTD, token_mask_BT)
        sum_BTD: Tensor = self.dropout(y_BTD)
        if self.has_skip:
            sum_BTD = sum_BTD + (x_BTD if self.alpha == 1.0 else self.alpha * x_BTD)
        if self.placement not in _PRE_NORM_PLACEMENTS:
            sum_BTD = self.norm(sum_BTD, token_mask_BT)
        return sum_BTD


_PRE_NORM_PLACEMENTS = (NormPlacement.pre, NormPlacement.sandwich)


def build_final_norm(model: BlocksConfig) -> nn.Module:
    """Build the norm at the end of a stack: the identity unless the norms stand before the sublayers.

    Without a final norm, the output of a pre-norm stack would be an unnormalized sum over all blocks.
    """
    return build_norm(model.d_model, model.norm_type if model.norm_placement in _PRE_NORM_PLACEMENTS else NormType.none)


class Nonlinearity(NamedTuple):
    """Activation function, and whether it gates a second projection: f(x W) * (x V) (Shazeer 2020, equation 6)."""

    function: Callable[[Tensor], Tensor]
    is_gated: bool


ACTIVATIONS: dict[Activation, Nonlinearity] = {
    Activation.relu: Nonlinearity(F.relu, is_gated=False),
    Activation.gelu: Nonlinearity(F.gelu, is_gated=False),
    Activation.geglu: Nonlinearity(F.gelu, is_gated=True),
    Activation.swiglu: Nonlinearity(F.silu, is_gated=True),
}


class FeedForward(nn.Module):
    """Feed-forward network with two layers, applied at each position (Vaswani et al. 2017, equation 2).

    Args:
        d_model: width of input and output.
        d_ff: width of the hidden layer; a gated activation has d_ff gates in addition.
        activation: function between the layers.
        dropout: probability between the layers; `ResidualConnection` applies dropout after the second layer.
        scale: factor of the initial weights (DeepNorm's beta).
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: Activation, dropout: float = 0.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.function, self.gated = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)
        parts = 2 if self.gated else 1
        self.input_projection = PackedLinear(d_model, [d_ff] * parts, gains=[1.0] * parts, scales=[scale] * parts)
        self.output_projection = ResidualProjection(d_ff, d_model, scale)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return y_BTD."""
        hidden: Tensor = self.input_projection(x_BTD)
        if self.gated:
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = self.function(gate) * hidden
        else:
            hidden = self.function(hidden)
        y_BTD: Tensor = self.output_projection(self.dropout(hidden))
        return y_BTD


class EncoderLayer(nn.Module):
    """Encoder layer: self-attention and a feed-forward network (Vaswani et al. 2017, section 3.1)."""

    def __init__(
        self,
        model: BlocksConfig,
        attention: AttentionConfig,
        position: PositionConfig,
        layout: TokenLayout = _SEQUENCE,
    ) -> None:
        super().__init__()
        alpha, beta = compute_deepnorm(model)
        relative = build_relative_position(model.num_heads, *model.head_widths, position, layout)
        self.self_attention = MultiHeadAttention(model, attention, beta, relative)
        self.feed_forward = FeedForward(model.d_model, model.d_ff, model.activation, model.activation_dropout, beta)
        self.around_self = ResidualConnection(model, alpha)
        self.around_feed_forward = ResidualConnection(model, alpha)

    def forward(
        self,
        x_BTD: Tensor,
        token_mask_BT: Tensor | None = None,
        need_weights: bool = False,
        num_queries: int | None = None,
    ) -> AttentionOutput:
        """Apply the layer.

        Args:
            x_BTD: output of the layer below.
            token_mask_BT: False at padding tokens; None when there are none.
            need_weights: also return the attention weights.
            num_queries: compute only the first tokens' outputs; the other tokens are only attended to. Not for
                relative positions, which take the queries for the last tokens, and not for batch norm.

        Returns:
            x_BTD after the layer, and weights_BHTT (or None).
        """
        mask_B11T = None if token_mask_BT is None else token_mask_BT[:, None, None]
        entered_BTD, memory_BTD = self.around_self.apply_pre_norm(x_BTD, token_mask_BT), None
        if num_queries is not None:
            entered_BTD, memory_BTD = entered_BTD[:, :num_queries], entered_BTD
            x_BTD, token_mask_BT = (
                x_BTD[:, :num_queries],
                None if token_mask_BT is None else token_mask_BT[:, :num_queries],
            )
        y_BTD, weights_BHTT = self.self_attention(entered_BTD, memory_BTD, mask=mask_B11T, need_weights=need_weights)
        x_BTD = self.around_self.add_and_norm(x_BTD, y_BTD, token_mask_BT)
        y_BTD = self.feed_forward(self.around_feed_forward.apply_pre_norm(x_BTD, token_mask_BT))
        return AttentionOutput(self.around_feed_forward.add_and_norm(x_BTD, y_BTD, token_mask_BT), weights_BHTT)


class DecoderOutput(NamedTuple):
    """Output of a decoder layer, with its self-attention and cross-attention weights (None unless requested)."""

    context: Tensor
    self_weights: Tensor | None
    cross_weights: Tensor | None


class DecoderLayer(nn.Module):
    """Decoder layer: causal self-attention, attention to a memory, feed-forward network.

    Source: Vaswani et al. 2017, section 3.1.
    """

    def __init__(self, model: BlocksConfig, attention: AttentionConfig, position: PositionConfig) -> None:
        super().__init__()
        alpha, beta = compute_deepnorm(model, decoder=True)
        relative = build_relative_position(model.num_heads, *model.head_widths, position, _SEQUENCE)
        self.self_attention = MultiHeadAttention(model, attention, beta, relative)
        self.cross_attention = MultiHeadAttention(model, attention, beta)
        self.feed_forward = FeedForward(model.d_model, model.d_ff, model.activation, model.activation_dropout, beta)
        self.around_self = ResidualConnection(model, alpha)
        self.around_cross = ResidualConnection(model, alpha)
        self.around_feed_forward = ResidualConnection(model, alpha)

    def forward(
        self,
        x_BTD: Tensor,
        memory_BSD: Tensor,
        memory_mask_BS: Tensor | None = None,
        token_mask_BT: Tensor | None = None,
        need_weights: bool = False,
    ) -> DecoderOutput:
        """Apply the layer to all positions of the target.

        Args:
            x_BTD: output of the layer below.
            memory_BSD: encoder output.
            memory_mask_BS: False at padding tokens of the source; None when there are none.
            token_mask_BT: False at padding tokens of the target, which stand at its end; None when there are none.
            need_weights: also return the attention weights.

        Returns:
            x_BTD after the layer, weights_BHTT and weights_BHTS (or None).
        """
        # The target needs no padding mask: padding is at the end, and causal attention sees no later position.
        y_BTD, weights_BHTT = self.self_attention(
            self.around_self.apply_pre_norm(x_BTD, token_mask_BT), is_causal=True, need_weights=need_weights
        )
        x_BTD = self.around_self.add_and_norm(x_BTD, y_BTD, token_mask_BT)
        x_BTD, weights_BHTS = self._apply_cross_attention_and_feed_forward(
            x_BTD, memory_BSD, memory_mask_BS, token_mask_BT, need_weights
        )
        return DecoderOutput(x_BTD, weights_BHTT, weights_BHTS)

    def decode_step(
        self, x_BJD: Tensor, past: KeyValue | None, memory: KeyValue, memory_mask_BS: Tensor | None
    ) -> tuple[Tensor, KeyValue]:
        """Apply the layer to the next position of J hypotheses of each sentence.

        Args:
            x_BJD: output of the layer below at that position.
            past: cached keys and values of earlier positions; None at the first one.
            memory: keys and values of the encoder output.
            memory_mask_BS: False at padding tokens of the source; None when there are none.

        Returns:
            x_BJD after the layer, and the extended cache.
        """
        y_BJD, past = self.self_attention.decode_step(self.around_self.apply_pre_norm(x_BJD), past)
        x_BJD = self.around_self.add_and_norm(x_BJD, y_BJD)
        # The hypotheses of a sentence share its memory, so cross-attention handles them as J queries.
        return self._apply_cross_attention_and_feed_forward(
            x_BJD, memory, memory_mask_BS, None, need_weights=False
        ).context, past

    def _apply_cross_attention_and_feed_forward(
        self,
        x_BTD: Tensor,
        memory: Tensor | KeyValue,
        memory_mask_BS: Tensor | None,
        token_mask_BT: Tensor | None,
        need_weights: bool,
    ) -> AttentionOutput:
        """Apply cross-attention and the feed-forward network, with their residual connections."""
        mask_B11S = None if memory_mask_BS is None else memory_mask_BS[:, None, None]
        y_BTD, weights_BHTS = self.cross_attention(
            self.around_cross.apply_pre_norm(x_BTD, token_mask_BT), memory, mask=mask_B11S, need_weights=need_weights
        )
        x_BTD = self.around_cross.add_and_norm(x_BTD, y_BTD, token_mask_BT)
        y_BTD = self.feed_forward(self.around_feed_forward.apply_pre_norm(x_BTD, token_mask_BT))
        return AttentionOutput(self.around_feed_forward.add_and_norm(x_BTD, y_BTD, token_mask_BT), weights_BHTS)
