"""The vision Transformer: patches, positions, pooling; and what it must learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from attnbench.config.attention import AttentionConfig, Normalizer, Score
from attnbench.config.model import Activation, Init, NormPlacement, NormType, Pool, VitConfig
from attnbench.config.position import Position, PositionConfig
from attnbench.models.vit import VisionTransformer
from attnbench.nn.normalizers import choose_greedily, collect_choices

# Every part that a model can be made of, one at a time.
PARTS: list[dict[str, Any]] = [
    *({"norm_placement": norm} for norm in NormPlacement),
    *({"norm_type": kind} for kind in NormType),
    *({"score": score} for score in Score),
    *({"normalizer": normalizer} for normalizer in Normalizer),
    *({"position": position, "pool": pool} for position in Position for pool in Pool),
    {"d_k": 12, "d_v": 4},
]


def name_of(part: dict[str, Any]) -> str:
    return "-".join(f"{key}={getattr(value, 'value', value)}" for key, value in part.items())


each_part = pytest.mark.parametrize("options", PARTS, ids=name_of)


def build(
    score: Score = Score.scaled_dot,
    normalizer: Normalizer = Normalizer.softmax,
    position: Position = Position.learned,
    channels: int = 1,
    dropout: float = 0.0,
    **options: Any,
) -> VisionTransformer:
    torch.manual_seed(0)
    shape = {
        "patch_size": 4,
        "depth": 2,
        "d_model": 16,
        "d_ff": 32,
        "num_heads": 2,
        "norm_placement": NormPlacement.pre,
    }
    kept = {"activation": Activation.gelu, "dropout": dropout, "activation_dropout": dropout}
    return VisionTransformer(
        VitConfig(**(shape | kept | options)),
        AttentionConfig(score=score, normalizer=normalizer),
        PositionConfig(kind=position),
        channels=channels,
        image_size=12,
        classes=5,
    )


def pictures(count: int = 3, channels: int = 1) -> torch.Tensor:
    return torch.randn(count, channels, 12, 12, generator=torch.Generator().manual_seed(1))


@each_part
def test_every_part_gets_a_gradient(options: dict[str, Any]) -> None:
    model = build(**options)
    with collect_choices() as made:
        logits = model(pictures()).logits
    assert logits.shape == (3, 5)
    (F.cross_entropy(logits, torch.tensor([0, 1, 2])) + sum(log_p_B.sum() for log_p_B in made)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # What classifies stands nowhere: how far the last layer's patches are from it is not asked.
        idle = model.cls_D is not None and name.startswith("encoder.1.self_attention.attention.position")
        assert (parameter.grad != 0).any() is not idle or name.endswith("qkv.bias"), name


@pytest.mark.parametrize("init", Init)
def test_starts_near_a_uniform_guess(init: Init) -> None:
    loss = F.cross_entropy(build(init=init)(pictures(64)).logits, torch.arange(64) % 5)
    assert 0.7 < loss.item() / torch.tensor(5.0).log().item() < 2


@each_part
def test_weights_are_the_same_models(options: dict[str, Any]) -> None:
    model = build(**options, dropout=0.3).eval()
    output = model(pictures(), need_weights=True)
    assert output.attention is not None
    tokens = 9 + (model.cls_D is not None)
    assert output.attention["encoder"].shape == (2, 3, 2, tokens, tokens)
    torch.testing.assert_close(output.attention["encoder"].sum(-1), torch.ones(2, 3, 2, tokens))
    torch.testing.assert_close(output.logits, model(pictures()).logits)


@each_part
def test_what_is_not_read_of_the_last_layer_is_not_missed(options: dict[str, Any]) -> None:
    """Whoever asks for weights gets a last layer of all tokens."""
    model, found = build(**options), []
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)  # a query of zeros has no direction
    for need_weights in (True, False):
        model.zero_grad()
        with choose_greedily():
            model(pictures(), need_weights).logits.square().sum().backward()
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@each_part
def test_batch_order_changes_nothing(options: dict[str, Any]) -> None:
    model, order = build(**options).eval(), torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(pictures()[order]).logits, model(pictures()).logits[order])


def shuffled_patches(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    patches = F.unfold(images, 4, stride=4)[:, :, order]
    return F.fold(patches, (12, 12), 4, stride=4)


@pytest.mark.parametrize("position", Position)
def test_only_positions_tell_where_a_patch_is(position: Position) -> None:
    model = build(position=position).eval()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    moved = shuffled_patches(pictures(), order)
    if position is not Position.none:
        assert not model(moved).logits.allclose(model(pictures()).logits, atol=1e-4)
    model.position = torch.nn.Identity()  # type: ignore[assignment]
    for layer in model.encoder:
        layer.self_attention.attention.position = None
    torch.testing.assert_close(model(moved).logits, model(pictures()).logits)


def test_a_patch_is_a_linear_map_of_its_pixels() -> None:
    model = build(channels=3)
    found = model.patches(pictures(channels=3)).flatten(2).transpose(1, 2)
    pixels = F.unfold(pictures(channels=3), 4, stride=4).transpose(1, 2)
    torch.testing.assert_close(found, pixels @ model.patches.weight.flatten(1).T + model.patches.bias)


@pytest.mark.parametrize("norm", [NormPlacement.post, NormPlacement.pre])
def test_equals_torchs_own_encoder(norm: NormPlacement) -> None:
    """Two of its layers with our weights, put behind our patches and before our head."""
    model = build(norm_placement=norm).eval()
    layer = torch.nn.TransformerEncoderLayer(
        16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=norm is NormPlacement.pre
    )
    stack = torch.nn.ModuleList([layer, torch.nn.TransformerEncoderLayer(
        16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=norm is NormPlacement.pre)])  # fmt: skip
    names = {
        "self_attention.qkv.weight": "self_attn.in_proj_weight", "self_attention.qkv.bias": "self_attn.in_proj_bias",
        "self_attention.output_projection.weight": "self_attn.out_proj.weight",
        "self_attention.output_projection.bias": "self_attn.out_proj.bias",
        "feed_forward.input_projection.weight": "linear1.weight", "feed_forward.input_projection.bias": "linear1.bias",
        "feed_forward.output_projection.weight": "linear2.weight",
        "feed_forward.output_projection.bias": "linear2.bias",
        "around_self.norm.weight": "norm1.weight", "around_self.norm.bias": "norm1.bias",
        "around_feed_forward.norm.weight": "norm2.weight", "around_feed_forward.norm.bias": "norm2.bias",
    }  # fmt: skip
    for theirs, ours in zip(stack, model.encoder, strict=True):
        theirs.load_state_dict({names[key]: value for key, value in ours.state_dict().items()})
    assert model.cls_D is not None
    x = model.position(model.patches(pictures()).flatten(2).transpose(1, 2))
    x = torch.cat((model.cls_D.expand(3, 1, 16), x), 1)
    for theirs in stack.train():  # in eval it would take a path of its own
        x = theirs(x)
    torch.testing.assert_close(model.head(model.norm(x)[:, 0]), model(pictures()).logits)


def test_dropout_is_for_training() -> None:
    model = build(dropout=0.3)
    assert not model(pictures()).logits.equal(model(pictures()).logits)
    model.eval()
    assert model(pictures()).logits.equal(model(pictures()).logits)


def test_a_patch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.patch_size=4: expected a divisor of data\.image_size=14"):
        VisionTransformer(
            VitConfig(d_model=16, num_heads=2, patch_size=4), AttentionConfig(), PositionConfig(),
            channels=1, image_size=14, classes=2,
        )  # fmt: skip


@pytest.mark.parametrize(("score", "pool"), [*((score, Pool.cls) for score in Score), (Score.scaled_dot, Pool.mean)])
def test_learns_which_patch_is_marked(score: Score, pool: Pool) -> None:
    """Which of 9 places holds the odd patch: a question of position, which a bag of patches cannot answer."""
    torch.manual_seed(0)
    model = VisionTransformer(
        VitConfig(patch_size=4, depth=2, d_model=32, d_ff=64, num_heads=2, dropout=0.0,
                  norm_placement=NormPlacement.pre, pool=pool),
        AttentionConfig(score=score), PositionConfig(kind=Position.learned), channels=1, image_size=12, classes=9,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels, patches = torch.randint(9, (count,)), torch.randn(count, 16, 9)
        patches[torch.arange(count), :, labels] = patches[torch.arange(count), :, labels].abs()
        return F.fold(patches, (12, 12), 4, stride=4), labels

    for _ in range(150):
        images, labels = draw(64)
        loss = F.cross_entropy(model(images).logits, labels)
        if loss < 0.15:  # of pictures that it has not seen
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, labels = draw(500)
    right = (model(images).logits.argmax(1) == labels).float().mean()
    # Without a score there is only the mean of all patches: the ablation must fall behind.
    assert right < 0.85 if score is Score.uniform else right > 0.9


def test_normal_initialization_is_that_of_patches_too() -> None:
    patches = build(init=Init.normal, d_model=64, patch_size=6).patches
    assert patches.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert patches.bias is not None
    assert (patches.bias == 0).all()
