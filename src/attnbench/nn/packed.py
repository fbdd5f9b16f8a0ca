"""Linear layers that say what they are: several with one input in one matrix, and the end of a residual branch."""

# Shapes: I width in, O width out of one part

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PackedLinear(nn.Linear):
    """`parts` layers of `d_out` outputs each, side by side; `gains` are for Xavier initialisation, one a part."""

    def __init__(self, d_in: int, d_out: int, gains: Sequence[float]) -> None:
        super().__init__(d_in, len(gains) * d_out)
        self.d_out, self.gains = d_out, tuple(gains)

    def part(self, x_I: Tensor, first: int, end: int) -> Tensor:
        """The output of parts `first` to `end`, exclusive."""
        rows = slice(first * self.d_out, end * self.d_out)
        return F.linear(x_I, self.weight[rows], self.bias[rows])


class BranchEnd(nn.Linear):
    """The last layer of a residual branch, which initialisation may treat apart; `gain` is for Xavier's."""

    def __init__(self, d_in: int, d_out: int, gain: float = 1.0) -> None:
        super().__init__(d_in, d_out)
        self.gain = gain
