"""Image classifiers without attention, for comparison with the vision Transformer."""

# Shapes: B batch, C channels (after a convolution: of its maps), H height, W width, K classes

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torchvision.models import resnet18

from attnbench.config.model import CnnConfig, MlpConfig, ResNet18Config
from attnbench.models.classifier import ClassifierOutput
from attnbench.nn.dropout import Dropout
from attnbench.nn.initialization import initialize_weights


class _ImageBaseline(nn.Module):
    """Base class of classifiers without attention."""

    network: nn.Module

    def forward(self, images_BCHW: Tensor, need_weights: bool = False) -> ClassifierOutput:
        """Return logits_BK without attention weights.

        Args:
            images_BCHW: normalized images.
            need_weights: not used.
        """
        return ClassifierOutput(self.network(images_BCHW), None)


class ResNet18(_ImageBaseline):
    """ResNet-18 (He et al. 2016, Table 1) from torchvision, for any number of channels and any image size."""

    def __init__(self, model: ResNet18Config, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.network = resnet18(weights=None, num_classes=classes)
        self.network.conv1 = _build_convolution(channels, 64, size=7, stride=2)
        initialize_weights(self, model.init)


class Cnn(_ImageBaseline):
    """Small residual network (He et al. 2016, section 4.2), for any image size.

    One stage for each width, with `blocks` blocks each; every stage but the first halves the resolution. Shortcuts
    are projections where the shape changes (option B), as in ResNet-18. Convolutions are initialized as in ResNet-18,
    whatever `init` says.
    """

    def __init__(self, model: CnnConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        first = model.widths[0]
        blocks = [BasicBlock(first, first, stride=1) for _ in range(model.blocks)]
        for before, width in pairwise(model.widths):
            blocks.append(BasicBlock(before, width, stride=2))
            blocks.extend(BasicBlock(width, width, stride=1) for _ in range(model.blocks - 1))
        self.network = nn.Sequential(
            _build_normed_convolution(channels, first, size=3),
            nn.ReLU(),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(model.widths[-1], classes),
        )
        initialize_weights(self, model.init)


class Mlp(_ImageBaseline):
    """Multilayer perceptron on the pixels of images of exactly `image_size` x `image_size`."""

    def __init__(self, model: MlpConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        width = channels * image_size**2
        for _ in range(model.depth):
            layers += [nn.Linear(width, model.d_hidden), nn.ReLU(), Dropout(model.dropout)]
            width = model.d_hidden
        self.network = nn.Sequential(*layers, nn.Linear(width, classes))
        initialize_weights(self, model.init)


class BasicBlock(nn.Module):
    """Residual block relu(f(x) + shortcut(x)) with two 3 x 3 convolutions in f (He et al. 2016, Figure 5 left)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _build_normed_convolution(in_channels, out_channels, size=3, stride=stride),
            nn.ReLU(),
            _build_normed_convolution(out_channels, out_channels, size=3),
        )
        same = in_channels == out_channels and stride == 1
        self.shortcut = (
            nn.Identity() if same else _build_normed_convolution(in_channels, out_channels, size=1, stride=stride)
        )
        self.activation = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return feature maps at 1 / stride of the resolution, rounded up."""
        out_BCHW: Tensor = self.activation(self.residual(x_BCHW) + self.shortcut(x_BCHW))
        return out_BCHW


def _build_normed_convolution(before: int, width: int, *, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_build_convolution(before, width, size=size, stride=stride), nn.BatchNorm2d(width))


def _build_convolution(before: int, width: int, *, size: int, stride: int) -> nn.Conv2d:
    """Build a convolution without bias, initialized as in He et al. 2015, equation 14.

    The bias would have no effect before a batch norm. Batch norm also removes the scale of the output, but not that
    of the
    gradient: with torch's default, whose variance is a sixth of this, the same learning rate would act as a larger
    one.
    """
    layer = nn.Conv2d(before, width, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
