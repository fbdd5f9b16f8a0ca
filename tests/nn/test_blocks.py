from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import Activation, Norm, TransformerConfig
from attnbench.nn.attention import MultiHeadAttention
from attnbench.nn.blocks import ACTIVATIONS, DecoderLayer, EncoderLayer, FeedForward, Residual, final_norm

B, T, S, D, FF, H = 2, 5, 7, 8, 12, 2


def config(**options: Any) -> TransformerConfig:
    return TransformerConfig(depth=1, d_model=D, d_ff=FF, num_heads=H, dropout=0.0, **options)


def attention_weights(module: MultiHeadAttention) -> dict[str, Tensor]:
    return {
        "in_proj_weight": module.qkv.weight,
        "in_proj_bias": module.qkv.bias,
        "out_proj.weight": module.out.weight,
        "out_proj.bias": module.out.bias,
    }


def prefixed(**modules: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for prefix, state in modules.items() for name, value in state.items()}


def randomised(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


@pytest.mark.parametrize("activation", Activation)
def test_feed_forward_is_its_formula(activation: Activation) -> None:
    module = randomised(FeedForward(D, FF, activation))
    x = torch.randn(B, T, D, dtype=torch.double)
    inner = x @ module.into.weight.T + module.into.bias
    if activation is Activation.relu:
        inner = inner.clamp(min=0)
    elif activation is Activation.gelu:
        inner = inner * torch.distributions.Normal(0.0, 1.0).cdf(inner)
    else:
        gate, value = inner[..., :FF], inner[..., FF:]
        swish = gate * torch.sigmoid(gate)
        gelu = gate * torch.distributions.Normal(0.0, 1.0).cdf(gate)
        inner = (gelu if activation is Activation.geglu else swish) * value
    torch.testing.assert_close(module(x), inner @ module.out.weight.T + module.out.bias)


def test_every_activation_is_there() -> None:
    assert set(ACTIVATIONS) == set(Activation)


@pytest.mark.parametrize("norm", Norm)
def test_residual_says_where_the_norm_stands(norm: Norm) -> None:
    residual, end = Residual(D, norm, dropout=0.0), final_norm(D, norm)
    x = torch.randn(B, T, D)
    normed = F.layer_norm(x, [D])
    torch.testing.assert_close(residual.enter(x), normed if norm is Norm.pre else x)
    torch.testing.assert_close(residual.leave(x, x), 2 * x if norm is Norm.pre else F.layer_norm(2 * x, [D]))
    torch.testing.assert_close(end(x), normed if norm is Norm.pre else x)


@pytest.mark.parametrize("norm", Norm)
def test_residual_drops_the_sublayer_not_the_way_around(norm: Norm) -> None:
    residual = Residual(D, Norm.pre, dropout=0.5)
    x, y = torch.ones(100, D), torch.full((100, D), 10.0)
    assert set(residual.leave(x, y).unique().tolist()) == {1.0, 21.0}


@pytest.mark.parametrize("activation", [Activation.relu, Activation.gelu])
@pytest.mark.parametrize("norm", Norm)
def test_encoder_layer_equals_torch(norm: Norm, activation: Activation) -> None:
    ours = randomised(EncoderLayer(config(norm=norm, activation=activation), AttentionConfig()))
    theirs = nn.TransformerEncoderLayer(
        D, H, FF, 0.0, activation.value, batch_first=True, norm_first=norm is Norm.pre, dtype=torch.double
    )
    theirs.load_state_dict(
        prefixed(
            self_attn=attention_weights(ours.self_attention),
            linear1=ours.feed_forward.into.state_dict(),
            linear2=ours.feed_forward.out.state_dict(),
            norm1=ours.around_self.norm.state_dict(),
            norm2=ours.around_feed_forward.norm.state_dict(),
        )
    )
    x, real = torch.randn(B, T, D, dtype=torch.double), torch.ones(B, T, dtype=torch.bool)
    real[1, 3:] = False
    found, weights = ours(x, real[:, None, None, :])
    assert weights is None
    torch.testing.assert_close(found, theirs(x, src_key_padding_mask=~real))


@pytest.mark.parametrize("activation", [Activation.relu, Activation.gelu])
@pytest.mark.parametrize("norm", Norm)
def test_decoder_layer_equals_torch(norm: Norm, activation: Activation) -> None:
    ours = randomised(DecoderLayer(config(norm=norm, activation=activation), AttentionConfig()))
    theirs = nn.TransformerDecoderLayer(
        D, H, FF, 0.0, activation.value, batch_first=True, norm_first=norm is Norm.pre, dtype=torch.double
    )
    theirs.load_state_dict(
        prefixed(
            self_attn=attention_weights(ours.self_attention),
            multihead_attn=attention_weights(ours.cross_attention),
            linear1=ours.feed_forward.into.state_dict(),
            linear2=ours.feed_forward.out.state_dict(),
            norm1=ours.around_self.norm.state_dict(),
            norm2=ours.around_cross.norm.state_dict(),
            norm3=ours.around_feed_forward.norm.state_dict(),
        )
    )
    x, memory = torch.randn(B, T, D, dtype=torch.double), torch.randn(B, S, D, dtype=torch.double)
    real = torch.ones(B, S, dtype=torch.bool)
    real[1, 3:] = False
    blocked = torch.ones(T, T, dtype=torch.bool).triu(1)
    found = ours(x, memory, real[:, None, None, :]).context
    torch.testing.assert_close(found, theirs(x, memory, tgt_mask=blocked, memory_key_padding_mask=~real))
