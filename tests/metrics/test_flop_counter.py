from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.model import ResNet18Config
from attnbench.metrics.flop_counter import METHOD, count_training_flops
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
