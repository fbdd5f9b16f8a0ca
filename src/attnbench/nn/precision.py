"""Float32 where autocast's dtypes have too few digits: weights that must sum to one, statistics, long sums."""

from __future__ import annotations

import torch
from torch import Tensor


def exact_dtype(x: Tensor) -> torch.dtype:
    """Return float32, or the dtype of `x` where it has more digits."""
    return torch.promote_types(x.dtype, torch.float32)


def to_exact(x: Tensor) -> Tensor:
    """Return `x` in float32, or unchanged where it has as many digits."""
    return x.to(exact_dtype(x))
