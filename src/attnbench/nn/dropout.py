"""Dropout that is fast on a CPU: torch's draws one random number for each element."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout: zero elements with probability `p` and scale the others by 1 / (1 - p) (Srivastava et al. 2014)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    @property
    def is_active(self) -> bool:
        """True if a call changes its input: in training mode, unless p is zero."""
        return self.training and self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        """Return x with elements dropped in training mode, and x unchanged otherwise."""
        if not self.is_active:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        return x * _sample_scaled_mask(x, self.p)

    def extra_repr(self) -> str:
        """Return the text that printing the module shows."""
        return f"p={self.p}"


def _sample_scaled_mask(x: Tensor, p: float) -> Tensor:
    """Return 1 / (1 - p) for kept elements and 0 for dropped ones, in the shape and dtype of x.

    One draw of 64 bits decides over four elements, 16 bits each. 1 - p is rounded to a multiple of 2^-16, and the
    scale uses the rounded value, so the expectation is exact.
    """
    kept = max(1, round((1 - p) * 2**16))
    draws = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    # The comparison is written in x's dtype, which saves one pass over the data compared with booleans.
    keep = torch.lt(draws.view(torch.int16)[: x.numel()].view(x.shape), kept - 2**15, out=torch.empty_like(x))
    return keep.mul_(2**16 / kept)
