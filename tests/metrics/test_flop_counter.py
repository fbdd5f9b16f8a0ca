from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.model import ResNet18Config
from attnbench.metrics.flop_counter import METHOD, UncountableError, count_training_flops, sum_flops_over_lengths
from attnbench.models.baselines import ResNet18

B, H, Q, K, D = 2, 3, 5, 7, 8
devices = pytest.mark.parametrize("device", ["cpu", "meta"])


@devices
@pytest.mark.parametrize(("input_learns", "passes"), [(False, 2), (True, 3)])
@pytest.mark.parametrize("shape", [(4,), (4, 3)])
def test_linear(shape: tuple[int, ...], input_learns: bool, passes: int, device: str) -> None:
    """Forward, the weights' gradient and, where it is wanted, the input's: a product of the same size each."""
    layer = nn.Linear(5, 6, device=device)
    x = torch.randn(*shape, 5, device=device, requires_grad=input_learns)
    assert count_training_flops(lambda: layer(x)) == passes * 2 * x.shape[:-1].numel() * 5 * 6


@devices
@pytest.mark.parametrize(("input_learns", "passes"), [(False, 2), (True, 3)])
def test_convolution(input_learns: bool, passes: int, device: str) -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, device=device)
    x_NCHW = torch.randn(2, 4, 9, 9, device=device, requires_grad=input_learns)
    forward = 2 * (2 * 6 * 5 * 5) * (4 * 3 * 3)
    assert count_training_flops(lambda: layer(x_NCHW)) == passes * forward


def explicit(q_BHQD: Tensor, k_BHKD: Tensor, v_BHKD: Tensor) -> Tensor:
    return (q_BHQD @ k_BHKD.mT * D**-0.5).softmax(-1) @ v_BHKD


@devices
@pytest.mark.parametrize("kind", ["plain", "causal", "masked", "dropped"])
def test_attention_is_counted_alike_fused_or_not_and_on_every_device(kind: str, device: str) -> None:
    def qkv(device: str) -> list[Tensor]:
        return [torch.randn(B, H, length, D, device=device, requires_grad=True) for length in (Q, K, K)]

    options = {
        "plain": {},
        "causal": {"is_causal": True},
        "masked": {"attn_mask": torch.ones(Q, K, dtype=torch.bool, device=device)},
        "dropped": {"dropout_p": 0.1},
    }[kind]
    fused = count_training_flops(lambda: F.scaled_dot_product_attention(*qkv(device), **options))
    assert fused == count_training_flops(lambda: explicit(*qkv("cpu")))
    assert fused == 3 * (2 * 2 * B * H * Q * K * D)


def test_resnet18_is_as_published() -> None:
    """1.8e9 multiply-adds (He et al. 2016, Table 1; torchvision: 1.814e9), at 2 each; no gradient for the picture."""
    with torch.device("meta"):
        model = ResNet18(ResNet18Config(), channels=3, image_size=224, classes=1000).eval()
        picture_1CHW = torch.empty(1, 3, 224, 224)
    first = 2 * 64 * 112 * 112 * 3 * 7 * 7
    forward = (count_training_flops(lambda: model(picture_1CHW).logits) + first) / 3
    assert forward == pytest.approx(2 * 1.81e9, rel=0.02)


def test_counting_twice_is_counting_once() -> None:
    layer = nn.Linear(5, 6, device="meta")
    x = torch.randn(4, 5, device="meta")
    assert count_training_flops(lambda: layer(x)) == count_training_flops(lambda: layer(x))


def test_what_learns_nothing_has_no_training() -> None:
    with pytest.raises(RuntimeError, match="does not require grad"):
        count_training_flops(lambda: torch.ones(2) * 3)


def test_the_method_is_one_line() -> None:
    assert "torch.utils.flop_counter" in METHOD
    assert "\n" not in METHOD


def test_an_operator_without_a_formula_is_named() -> None:
    x = torch.randn(4, 5, requires_grad=True)
    with pytest.raises(UncountableError, match=r"no formula for aten._cdist_backward, aten._cdist_forward"):
        count_training_flops(lambda: torch.cdist(x, x, p=1))


def test_a_product_in_place_is_counted() -> None:
    x = torch.randn(4, 5, requires_grad=True)
    assert count_training_flops(lambda: torch.zeros(4, 4).addmm_(x, x.detach().t())) == 2 * 2 * 4 * 5 * 4


SOURCE_LENGTHS, TARGET_LENGTHS = np.array([1, 17, 40, 38]), np.array([4, 20, 39, 42])


@pytest.mark.parametrize(
    "cost",
    [
        lambda s, t: 5.0 + 3 * s + 2 * t + 7 * s * s + s * t + 4 * t * t,
        lambda s, t: 100.0 * t + 10 * t * min(s, 1),
        lambda s, t: 100.0 * t + 10 * t * max(s, 5),  # not a polynomial at short lengths
    ],
)  # fmt: skip
def test_the_sum_over_pairs_is_that_of_all_counts(cost: Callable[[int, int], float]) -> None:
    pairs = zip(SOURCE_LENGTHS.tolist(), TARGET_LENGTHS.tolist(), strict=True)
    expected = sum(cost(source, target) for source, target in pairs)
    assert sum_flops_over_lengths(cost, SOURCE_LENGTHS, TARGET_LENGTHS) == pytest.approx(expected, rel=0.01)


def test_pairs_of_one_length_are_counted_exactly() -> None:
    lengths = np.array([6, 6])
    assert sum_flops_over_lengths(lambda s, t: float(s**3 * t), lengths, lengths) == pytest.approx(2 * 6**4)


def test_other_growth_is_refused() -> None:
    with pytest.raises(UncountableError, match="no polynomial of degree two"):
        sum_flops_over_lengths(lambda s, t: 2.0**s, SOURCE_LENGTHS, TARGET_LENGTHS)
