"""Float32 where autocast's dtypes have too few digits: weights that must sum to one, statistics, long sums."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def at_least_float32_dtype(x: Tensor) -> torch.dtype:
    """Return float32, or the dtype of `x` where that dtype has more digits."""
    return torch.promote_types(x.dtype, torch.float32)


def to_at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or unchanged where its dtype has as many digits."""
    return x.to(at_least_float32_dtype(x))


def is_autocast_enabled(device: str) -> bool:
    """Return True if autocast changes dtypes on a device.

    Args:
        device: a tensor's `device.type`. "meta", where shapes and FLOPs are found without values, has no autocast.
    """
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def disable_autocast(device: str) -> AbstractContextManager[None]:
    """Return a context in which operations keep the dtypes of their inputs.

    Args:
        device: a tensor's `device.type`.
    """
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
