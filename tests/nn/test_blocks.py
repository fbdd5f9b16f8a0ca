from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import Activation, BlocksConfig, Init, NormPlacement, NormType, TransformerConfig, VitConfig
from attnbench.config.position import PositionConfig
from attnbench.nn.attention import MultiHeadAttention
from attnbench.nn.blocks import (
    ACTIVATIONS,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    ResidualConnection,
    build_final_norm,
    compute_deepnorm,
)
from attnbench.nn.initialization import initialize_weights
from attnbench.nn.norms import build_norm

B, T, S, D, FF, H = 2, 5, 7, 8, 12, 2


def config(**options: Any) -> TransformerConfig:
    return TransformerConfig(depth=1, d_model=D, d_ff=FF, num_heads=H, dropout=0.0, **options)


def attention_weights(module: MultiHeadAttention) -> dict[str, Tensor]:
    return {
        "in_proj_weight": module.qkv.weight,
        "in_proj_bias": module.qkv.bias,
        "out_proj.weight": module.output_projection.weight,
        "out_proj.bias": module.output_projection.bias,
    }


def prefixed(**modules: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for prefix, state in modules.items() for name, value in state.items()}


def randomized(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


def gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.distributions.Normal(0.0, 1.0).cdf(x)


FORMULAS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    Activation.relu: lambda inner: inner.clamp(min=0),
    Activation.gelu: gelu,
    Activation.geglu: lambda inner: gelu(inner[..., :FF]) * inner[..., FF:],
    Activation.swiglu: lambda inner: inner[..., :FF] * torch.sigmoid(inner[..., :FF]) * inner[..., FF:],
}


@pytest.mark.parametrize("activation", FORMULAS)
def test_feed_forward_equals_its_formula(activation: Activation) -> None:
    module = randomized(FeedForward(D, FF, activation))
    x = torch.randn(B, T, D, dtype=torch.double)
    inner = FORMULAS[activation](x @ module.input_projection.weight.T + module.input_projection.bias)
    torch.testing.assert_close(module(x), inner @ module.output_projection.weight.T + module.output_projection.bias)


def test_every_activation_is_there() -> None:
    assert set(ACTIVATIONS) == set(Activation)


@pytest.mark.parametrize("norm", NormPlacement)
def test_the_first_tokens_alone_are_what_they_were_among_all(norm: NormPlacement) -> None:
    layer = randomized(EncoderLayer(config(norm_placement=norm), AttentionConfig(), PositionConfig()))
    x, real = torch.randn(B, T, D, dtype=torch.double), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    torch.testing.assert_close(layer(x, real, num_queries=2).context, layer(x, real).context[:, :2])


def by_hand(
    norm: NormPlacement, normed: Callable[[Tensor], Tensor], x: Tensor, f: Callable[[Tensor], Tensor]
) -> Tensor:
    """Each placement's formula, with the final norm of a stack of this one block."""
    match norm:
        case NormPlacement.post:
            return normed(x + f(x))
        case NormPlacement.pre:
            return normed(x + f(normed(x)))
        case NormPlacement.sandwich:
            return normed(x + normed(f(normed(x))))
        case NormPlacement.deepnorm:
            return normed(1.5 * x + f(x))
    raise AssertionError("write down the formula of a new placement here")


@pytest.mark.parametrize("kind", NormType)
@pytest.mark.parametrize("norm", NormPlacement)
def test_residual_is_its_formula(norm: NormPlacement, kind: NormType) -> None:
    model = config(norm_placement=norm, norm_type=kind)
    residual, end = (
        ResidualConnection(model, alpha=1.5 if norm is NormPlacement.deepnorm else 1.0),
        build_final_norm(model),
    )
    x, normed = torch.randn(B, T, D), build_norm(D, kind)
    y = torch.sin(residual.apply_pre_norm(x))
    torch.testing.assert_close(end(residual.add_and_norm(x, y)), by_hand(norm, normed, x, torch.sin))


@pytest.mark.parametrize("norm", NormPlacement)
def test_without_a_residual_there_is_no_way_around(norm: NormPlacement) -> None:
    residual = ResidualConnection(config(norm_placement=norm, norm_type=NormType.none, residual=False), alpha=1.5)
    x, y = torch.randn(2, B, T, D)
    torch.testing.assert_close(residual.add_and_norm(x, y), y)


@pytest.mark.parametrize("norm", NormPlacement)
def test_residual_drops_the_sublayer_not_the_way_around(norm: NormPlacement) -> None:
    model = config(norm_placement=norm, norm_type=NormType.none)
    model.dropout = 0.5
    x, y = torch.ones(100, D), torch.full((100, D), 10.0)
    assert set(ResidualConnection(model).add_and_norm(x, y).unique().tolist()) == {1.0, 21.0}


@pytest.mark.parametrize(
    ("model", "decoder", "alpha", "beta"),
    [
        # Wang et al. 2022, Figure 2.
        (VitConfig(norm_placement=NormPlacement.deepnorm, depth=8), False, 2.0, 64**-0.25),
        (TransformerConfig(norm_placement=NormPlacement.deepnorm, depth=4, decoder_depth=27), True, 3.0, 324**-0.25),
        (
            TransformerConfig(norm_placement=NormPlacement.deepnorm, depth=2, decoder_depth=4096),
            False,
            0.81 * 2,
            0.87 / 2,
        ),
        (TransformerConfig(norm_placement=NormPlacement.pre, depth=8), True, 1.0, 1.0),
    ],
)
def test_deepnorm_is_the_papers(model: BlocksConfig, decoder: bool, alpha: float, beta: float) -> None:
    assert compute_deepnorm(model, decoder=decoder) == pytest.approx((alpha, beta))


def first_weights(norm: NormPlacement, init: Init, depth: int) -> dict[str, Tensor]:
    model = VitConfig(depth=depth, d_model=64, d_ff=128, num_heads=4, norm_placement=norm)
    torch.manual_seed(0)
    layer = EncoderLayer(model, AttentionConfig(), PositionConfig())
    initialize_weights(layer, init)
    q, k, v = layer.self_attention.qkv.weight.chunk(3)
    into, out = layer.feed_forward.input_projection.weight, layer.feed_forward.output_projection.weight
    return {
        "q": q,
        "k": k,
        "v": v,
        "attention": layer.self_attention.output_projection.weight,
        "into": into,
        "out": out,
    }


@pytest.mark.parametrize("depth", [2, 8])
def test_deepnorm_has_the_gains_of_the_papers_figure(depth: int) -> None:
    """Wang et al. 2022, Figure 2: 1 for queries and keys; beta for values, output and feed-forward network."""
    beta = (8 * depth) ** -0.25
    wanted = {"q": (128, 1), "k": (128, 1), "v": (128, beta), "attention": (128, beta), "into": (192, beta),
              "out": (192, beta)}  # fmt: skip
    for name, weight in first_weights(NormPlacement.deepnorm, Init.xavier, depth).items():
        fans, gain = wanted[name]
        assert weight.abs().max().item() == pytest.approx(gain * (6 / fans) ** 0.5, rel=0.01), name


@pytest.mark.parametrize("init", Init)
def test_deepnorm_makes_every_initialization_smaller(init: Init) -> None:
    """What torchscale, the authors' implementation, does: beta multiplies the weights that there are."""
    plain, scaled = (
        first_weights(NormPlacement.post, init, depth=2),
        first_weights(NormPlacement.deepnorm, init, depth=2),
    )
    gain = 2**0.5 if init in (Init.xavier, Init.scaled) else 1.0  # theirs for queries, keys and values; others': 1
    for name in plain:
        factor = (gain if name in "qkv" else 1.0) * (1.0 if name in "qk" else 0.5)
        torch.testing.assert_close(scaled[name], factor * plain[name], msg=name)


@pytest.mark.parametrize("activation", [Activation.relu, Activation.gelu])
@pytest.mark.parametrize("norm", [NormPlacement.post, NormPlacement.pre])
def test_encoder_layer_equals_torch(norm: NormPlacement, activation: Activation) -> None:
    ours = randomized(
        EncoderLayer(config(norm_placement=norm, activation=activation), AttentionConfig(), PositionConfig())
    )
    theirs = nn.TransformerEncoderLayer(
        D, H, FF, 0.0, activation.value, batch_first=True, norm_first=norm is NormPlacement.pre, dtype=torch.double
    )
    theirs.load_state_dict(
        prefixed(
            self_attn=attention_weights(ours.self_attention),
            linear1=ours.feed_forward.input_projection.state_dict(),
            linear2=ours.feed_forward.output_projection.state_dict(),
            norm1=ours.around_self.norm.state_dict(),
            norm2=ours.around_feed_forward.norm.state_dict(),
        )
    )
    x, real = torch.randn(B, T, D, dtype=torch.double), torch.ones(B, T, dtype=torch.bool)
    real[1, 3:] = False
    found, weights = ours(x, real)
    assert weights is None
    torch.testing.assert_close(found, theirs(x, src_key_padding_mask=~real))


@pytest.mark.parametrize("activation", [Activation.relu, Activation.gelu])
@pytest.mark.parametrize("norm", [NormPlacement.post, NormPlacement.pre])
def test_decoder_layer_equals_torch(norm: NormPlacement, activation: Activation) -> None:
    ours = randomized(
        DecoderLayer(config(norm_placement=norm, activation=activation), AttentionConfig(), PositionConfig())
    )
    theirs = nn.TransformerDecoderLayer(
        D, H, FF, 0.0, activation.value, batch_first=True, norm_first=norm is NormPlacement.pre, dtype=torch.double
    )
    theirs.load_state_dict(
        prefixed(
            self_attn=attention_weights(ours.self_attention),
            multihead_attn=attention_weights(ours.cross_attention),
            linear1=ours.feed_forward.input_projection.state_dict(),
            linear2=ours.feed_forward.output_projection.state_dict(),
            norm1=ours.around_self.norm.state_dict(),
            norm2=ours.around_cross.norm.state_dict(),
            norm3=ours.around_feed_forward.norm.state_dict(),
        )
    )
    x, memory = torch.randn(B, T, D, dtype=torch.double), torch.randn(B, S, D, dtype=torch.double)
    real = torch.ones(B, S, dtype=torch.bool)
    real[1, 3:] = False
    blocked = torch.ones(T, T, dtype=torch.bool).triu(1)
    found = ours(x, memory, real).context
    torch.testing.assert_close(found, theirs(x, memory, tgt_mask=blocked, memory_key_padding_mask=~real))
