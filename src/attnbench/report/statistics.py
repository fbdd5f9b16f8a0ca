"""What a few numbers say together: mean, spread and how many there were."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """A sample in three numbers."""

    mean: float
    std: float | None  # sample standard deviation, over n - 1; None where n = 1 tells of no spread
    n: int


def summarise(values: Sequence[float]) -> Summary:
    """Mean and spread of finite `values`.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("expected at least one value")
    std = statistics.stdev(values) if len(values) > 1 else None
    return Summary(mean=statistics.fmean(values), std=std, n=len(values))
