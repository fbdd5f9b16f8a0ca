"""Time and memory against size: several sizes in a row of a table, and the exponent that they grow with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from statistics import linear_regression

import numpy as np
import torch
from scipy.optimize import nnls  # type: ignore[import-untyped]

from attnbench.benchmarks.device import MIB, peak_bytes, seconds
from attnbench.benchmarks.measurement import Numbers
from attnbench.benchmarks.table import EXPONENT, at

_FITTED = 3  # sizes, at least
FIT = (
    f"*{EXPONENT}: the slope of log(number) against log(size), by least squares over the larger half of"
    f" the sizes, {_FITTED} of them at least, none of one size alone; [p25, p75]: over repeats, each of which measures"
    " all sizes of a row."
)


class Curve:
    """What one thing costs at several sizes, built when it is first asked."""

    def __init__(
        self,
        step_of: Callable[[int], Callable[[], object]],
        sizes: Sequence[int],
        unit: str,
        device: torch.device,
        *,
        crossing: bool = False,
    ) -> None:
        """`step_of(size)` gives what is measured; `unit`: of a size; `crossing`: whether to look for `crossing`."""
        self.step_of, self.sizes, self.unit, self.device = step_of, sizes, unit, device
        self.crossing = crossing

    @cached_property
    def steps(self) -> dict[int, Callable[[], object]]:
        """What is measured at each size."""
        return {size: self.step_of(size) for size in self.sizes}

    def times(self) -> dict[int, float]:
        """Milliseconds at each size, one after the other."""
        return {size: 1e3 * seconds(step, self.device) for size, step in self.steps.items()}

    def sample(self) -> Numbers:
        """Milliseconds at each size, and how they grow."""
        times = self.times()
        where = crossing(times) if self.crossing else None
        return self.numbers("step_ms", times, {} if where is None else {f"crossing_{self.unit}": where})

    def once(self) -> Numbers:
        """MiB at each size, and how they grow."""
        return self.numbers("peak_mib", {n: peak_bytes(step, self.device) / MIB for n, step in self.steps.items()})

    def numbers(self, key: str, curve: Mapping[int, float], others: Mapping[str, float] | None = None) -> Numbers:
        """Of `key` at each size, and how it grows; `others` in between."""
        slope = exponent(curve)
        fitted = {} if slope is None else {key + EXPONENT: slope}
        return fitted | dict(others or {}) | {at(key, size, self.unit): number for size, number in curve.items()}


def exponent(curve: Mapping[int, float]) -> float | None:
    """The p of number ~ size^p over the sizes that `FIT` says; None of fewer than two sizes."""
    sizes = sorted(curve)[-max(_FITTED, math.ceil(len(curve) / 2)) :]
    if len(sizes) < 2:
        return None
    return linear_regression([math.log(n) for n in sizes], [math.log(curve[n]) for n in sizes]).slope


def crossing(curve: Mapping[int, float]) -> float | None:
    """The size n from which c n^2 outweighs b n, where a + b n + c n^2 is fitted to all sizes by least squares.

    What is squared are relative errors, so that small sizes count too; a, b and c are not negative. None: fewer than
    three sizes, or b or c is found to be zero.
    """
    if len(curve) < 3:
        return None
    sizes, numbers = np.array(list(curve), float), np.array(list(curve.values()))
    terms = np.stack([sizes**power / numbers for power in range(3)], axis=1)
    (_, linear, square), _ = nnls(terms, np.ones(len(sizes)))
    return float(linear / square) if linear > 0 and square > 0 else None
