"""Dropout that is cheap on a CPU, where PyTorch's draws one slow random number an element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero elements with probability `p` and scale the others by 1 / (1 - p): Srivastava et al. 2014."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    @property
    def active(self) -> bool:
        """Whether a call changes its input now: in training, unless p is zero."""
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped, in training; x itself otherwise."""
        if not self.active:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        return x * _noise(x, self.p)

    def extra_repr(self) -> str:
        """Show p when the module is printed."""
        return f"p={self.p}"


def _noise(x: Tensor, p: float) -> Tensor:
    """1 / (1 - p) where an element is kept, else 0, in the shape and type of x.

    One draw of 64 bits decides over four elements, 16 bits each; 1 - p is rounded to a multiple of 2^-16, and the
    scale is that of the rounded one, so that the expectation is exact.
    """
    kept = max(1, round((1 - p) * 2**16))
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    # A comparison written straight into numbers of x's type: one pass less than by way of booleans.
    keep = torch.lt(draws.view(torch.int16)[: x.numel()].view(x.shape), kept - 2**15, out=torch.empty_like(x))
    return keep.mul_(2**16 / kept)
