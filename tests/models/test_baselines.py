from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from attnbench.config.model import CnnConfig, Init, MlpConfig, ResNet18Config
from attnbench.models.baselines import Cnn, Mlp, ResNet18

# A build of each: (channels, image_size) -> network of ten classes.
BUILDS: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet18": lambda c, s: ResNet18(ResNet18Config(), channels=c, image_size=s, classes=10),
    "cnn": lambda c, s: Cnn(CnnConfig(), channels=c, image_size=s, classes=10),
    "mlp": lambda c, s: Mlp(MlpConfig(), channels=c, image_size=s, classes=10),
    "linear": lambda c, s: Mlp(MlpConfig(depth=0), channels=c, image_size=s, classes=10),
}
every_one = pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(1)


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@every_one
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 96])
@torch.no_grad()
def test_logits_for_each_picture_and_no_attention(
    build: Callable[[int, int], nn.Module], channels: int, size: int
) -> None:
    output = build(channels, size)(torch.randn(2, channels, size, size), need_weights=True)
    assert output.logits.shape == (2, 10)
    assert output.attention is None


@every_one
def test_every_parameter_gets_a_gradient(build: Callable[[int, int], nn.Module]) -> None:
    model = build(1, 28)
    F.cross_entropy(model(torch.randn(8, 1, 28, 28)).logits, torch.arange(8)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@every_one
@torch.no_grad()
def test_a_picture_is_judged_alone(build: Callable[[int, int], nn.Module]) -> None:
    model, images_BCHW, order_B = build(3, 32), torch.randn(6, 3, 32, 32), torch.randperm(6)
    model(images_BCHW)  # running statistics other than those of the start
    model.eval()
    logits_BK = model(images_BCHW).logits
    torch.testing.assert_close(model(images_BCHW[order_B]).logits, logits_BK[order_B], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(images_BCHW[:1]).logits, logits_BK[:1], rtol=1e-4, atol=1e-5)


@every_one
def test_overfits_one_batch(build: Callable[[int, int], nn.Module]) -> None:
    """Labels drawn at random: nothing but the pictures themselves tells them apart."""
    model, images_BCHW, labels_B = build(1, 28), torch.randn(16, 1, 28, 28), torch.randint(10, (16,))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(40):
        loss = F.cross_entropy(model(images_BCHW).logits, labels_B)
        if loss.item() < 0.02:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    pytest.fail(f"a loss of {loss.item():.3f} after 40 updates")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        # torchvision's 11,689,512, less 990 of 1000 classes (513 each), less two channels of three.
        (ResNet18(ResNet18Config(), channels=1, image_size=28, classes=10), 11_689_512 - 990 * 513 - 2 * 64 * 49),
        (ResNet18(ResNet18Config(), channels=3, image_size=96, classes=1000), 11_689_512),
        (Cnn(CnnConfig(), channels=1, image_size=28, classes=10), 174_970),
        (Cnn(CnnConfig(widths=[4], blocks=1), channels=3, image_size=9, classes=2), 108 + 8 + 2 * (144 + 8) + 10),
        (Mlp(MlpConfig(), channels=1, image_size=28, classes=10), 785 * 512 + 513 * 512 + 513 * 10),
        (Mlp(MlpConfig(depth=1, d_hidden=7), channels=3, image_size=2, classes=4), 13 * 7 + 8 * 4),
        (Mlp(MlpConfig(depth=0), channels=1, image_size=28, classes=10), 785 * 10),
    ],
    ids=["resnet18", "resnet18 of imagenet", "cnn", "cnn of a block", "mlp", "mlp of a layer", "linear"],
)
def test_as_many_parameters_as_there_should_be(model: nn.Module, expected: int) -> None:
    assert parameters(model) == expected


@torch.no_grad()
def test_resnet18_is_torchvisions() -> None:
    mine, theirs = ResNet18(ResNet18Config(), channels=3, image_size=32, classes=10), resnet18(num_classes=10)
    mine.network.load_state_dict(theirs.state_dict())
    images_BCHW = torch.randn(4, 3, 32, 32)
    for training in (True, False):
        torch.testing.assert_close(
            mine.train(training)(images_BCHW).logits, theirs.train(training)(images_BCHW), rtol=0, atol=0
        )


@pytest.mark.parametrize("init", Init)
@every_one
def test_convolutions_start_as_torchvisions_whatever_init_says(
    build: Callable[[int, int], nn.Module], init: Init
) -> None:
    """Standard deviation sqrt(2 / (outputs x area)): kaiming_normal of fan_out."""
    for layer in build(3, 32).modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] ** 2
            assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.15)
            assert layer.bias is None


@pytest.mark.parametrize(
    "model",
    [
        ResNet18(ResNet18Config(init=Init.normal), channels=1, image_size=28, classes=10),
        Cnn(CnnConfig(init=Init.normal), channels=1, image_size=28, classes=10),
        Mlp(MlpConfig(init=Init.normal), channels=1, image_size=28, classes=10),
    ],
    ids=["resnet18", "cnn", "mlp"],
)
def test_linear_layers_start_as_init_says(model: nn.Module) -> None:
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert linear
    for layer in linear:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.15)
        assert not layer.bias.any()


def test_a_stage_halves_the_resolution_and_the_first_does_not() -> None:
    model, shapes = Cnn(CnnConfig(widths=[4, 8, 8], blocks=2), channels=1, image_size=28, classes=10), []
    for layer in model.network:
        layer.register_forward_hook(lambda *call: shapes.append(tuple(call[-1].shape[1:])))
    model(torch.randn(2, 1, 28, 28))
    assert shapes[1:8] == [(4, 28, 28)] * 3 + [(8, 14, 14)] * 2 + [(8, 7, 7)] * 2


def test_dropout_is_the_mlps_in_training_alone() -> None:
    model, images_BCHW = Mlp(MlpConfig(dropout=0.5), channels=1, image_size=28, classes=10), torch.randn(4, 1, 28, 28)
    assert not torch.equal(model(images_BCHW).logits, model(images_BCHW).logits)
    assert torch.equal(model.eval()(images_BCHW).logits, model(images_BCHW).logits)
