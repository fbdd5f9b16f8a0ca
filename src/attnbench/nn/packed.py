"""Linear layers that say what they are: several with one input in one matrix, and the end of a residual branch."""

# Shapes: I width in, P width out of one part

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedLinear(nn.Linear):
    """Layers of the given `widths` side by side; `gains` are for Xavier initialisation, one a layer."""

    def __init__(self, d_in: int, widths: Sequence[int], gains: Sequence[float]) -> None:
        super().__init__(d_in, sum(widths))
        self.widths, self.gains = list(widths), tuple(gains)

    def split(self, x_I: Tensor, first: int, end: int) -> tuple[Tensor, ...]:
        """The output y_P of layers `first` to `end`, exclusive."""
        rows = slice(sum(self.widths[:first]), sum(self.widths[:end]))
        return torch.split(F.linear(x_I, self.weight[rows], self.bias[rows]), self.widths[first:end], dim=-1)


class BranchEnd(nn.Linear):
    """The last layer of a residual branch, which initialisation may treat apart; `gain` is for Xavier's."""

    def __init__(self, d_in: int, d_out: int, gain: float = 1.0) -> None:
        super().__init__(d_in, d_out)
        self.gain = gain
