"""Linear layers with a role: several layers packed in one matrix, and the last layer of a residual branch."""

# Shapes: I width in, P width out of one part

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedLinear(nn.Linear):
    """Linear layers with one input, packed side by side in one matrix.

    Args:
        d_in: width of the input.
        widths: output width of each layer.
        gains: gain of each layer for Xavier initialization.
        scales: factor of each layer's initial weights, whatever the initialization (DeepNorm's beta).
    """

    def __init__(
        self, d_in: int, widths: Sequence[int], gains: Sequence[float], scales: Sequence[float] | None = None
    ) -> None:
        super().__init__(d_in, sum(widths))
        self.widths, self.gains = list(widths), tuple(gains)
        self.scales = tuple(scales or (1.0,) * len(self.widths))

    def split(self, x_I: Tensor, first: int, end: int) -> tuple[Tensor, ...]:
        """Return the outputs y_P of layers `first` to `end` (exclusive).

        Args:
            x_I: inputs of width I, with any leading dimensions.
            first: index of the first layer.
            end: index behind the last layer.
        """
        rows = slice(sum(self.widths[:first]), sum(self.widths[:end]))
        return torch.split(F.linear(x_I, self.weight[rows], self.bias[rows]), self.widths[first:end], dim=-1)


class ResidualProjection(nn.Linear):
    """Last layer of a residual branch, which some initializations treat separately; `scale` as in `PackedLinear`."""

    def __init__(self, d_in: int, d_out: int, scale: float = 1.0) -> None:
        super().__init__(d_in, d_out)
        self.scale = scale
