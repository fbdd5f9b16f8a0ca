"""The networks without attention that a vision Transformer is measured against."""

# Shapes: B batch, C channels (after a convolution: of its maps), H height, W width, K classes

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torchvision.models import resnet18

from attnbench.config.model import CnnConfig, MlpConfig, ResNet18Config
from attnbench.models.classifier import ClassifierOutput
from attnbench.nn.dropout import Dropout
from attnbench.nn.initialization import initialise


class _Baseline(nn.Module):
    """A network from pictures to logits; it has no attention to show."""

    network: nn.Module

    def forward(self, images_BCHW: Tensor, need_weights: bool = False) -> ClassifierOutput:
        """logits_BK; there are no weights, asked for or not."""
        return ClassifierOutput(self.network(images_BCHW), None)


class ResNet18(_Baseline):
    """ResNet-18 (He et al. 2016, Table 1) by torchvision, for any number of channels; `image_size` may be any."""

    def __init__(self, model: ResNet18Config, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.network = resnet18(weights=None, num_classes=classes)
        self.network.conv1 = _convolution(channels, 64, size=7, stride=2)
        initialise(self, model.init)


class Cnn(_Baseline):
    """A small residual network (He et al. 2016, section 4.2); `image_size` may be any.

    A stage a width, `blocks` blocks each, every stage but the first at half its predecessor's resolution; shortcuts
    are projections where the shape changes (option B), as in ResNet-18, so that the two differ in size alone.
    Convolutions start as ResNet-18's do, whatever `init` says, which is about the linear layer.
    """

    def __init__(self, model: CnnConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        first = model.widths[0]
        blocks = [BasicBlock(first, first, stride=1) for _ in range(model.blocks)]
        for before, width in pairwise(model.widths):
            blocks.append(BasicBlock(before, width, stride=2))
            blocks.extend(BasicBlock(width, width, stride=1) for _ in range(model.blocks - 1))
        self.network = nn.Sequential(
            _normed_convolution(channels, first, size=3),
            nn.ReLU(),
            *blocks,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(model.widths[-1], classes),
        )
        initialise(self, model.init)


class Mlp(_Baseline):
    """A multilayer perceptron on the pixels of pictures of exactly `image_size` x `image_size`."""

    def __init__(self, model: MlpConfig, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        width = channels * image_size**2
        for _ in range(model.depth):
            layers += [nn.Linear(width, model.d_hidden), nn.ReLU(), Dropout(model.dropout)]
            width = model.d_hidden
        self.network = nn.Sequential(*layers, nn.Linear(width, classes))
        initialise(self, model.init)


class BasicBlock(nn.Module):
    """relu(f(x) + shortcut(x)), f two 3 x 3 convolutions: He et al. 2016, Figure 5 left."""

    def __init__(self, before: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _normed_convolution(before, width, size=3, stride=stride),
            nn.ReLU(),
            _normed_convolution(width, width, size=3),
        )
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else _normed_convolution(before, width, size=1, stride=stride)
        self.activation = nn.ReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The block's maps, at 1 / stride of the resolution (rounded up)."""
        out_BCHW: Tensor = self.activation(self.residual(x_BCHW) + self.shortcut(x_BCHW))
        return out_BCHW


def _normed_convolution(before: int, width: int, *, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_convolution(before, width, size=size, stride=stride), nn.BatchNorm2d(width))


def _convolution(before: int, width: int, *, size: int, stride: int) -> nn.Conv2d:
    """A convolution without bias, which a batch norm would take away; its start is He et al. 2015's, equation 14.

    The batch norm also takes away the scale of its output, but not that of its gradient: at PyTorch's own start,
    with a sixth of this one's variance (at equal widths), the same learning rate would mean a larger one.
    """
    layer = nn.Conv2d(before, width, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
