"""Time and memory against size: several sizes in one table row, and the fitted exponent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from statistics import linear_regression

import numpy as np
import torch
from scipy.optimize import nnls  # type: ignore[import-untyped]

from attnbench.benchmarks.device import MIB, measure_peak_bytes, measure_seconds
from attnbench.benchmarks.measurement import Measurements
from attnbench.benchmarks.table import EXPONENT, format_sized_key

_MIN_FITTED_SIZES = 3  # smallest number of sizes in the fit
FIT_NOTE = (
    f"*{EXPONENT}: the slope of log(number) against log(size), by least squares over the larger half of"
    f" the sizes, {_MIN_FITTED_SIZES} of them at least, none of one size alone; [p25, p75]: over repeats, each of"
    " which measures all sizes of a row."
)


class SizeCurve:
    """Cost of one function at several sizes; its steps are built at first use."""

    def __init__(
        self,
        build_step: Callable[[int], Callable[[], object]],
        sizes: Sequence[int],
        unit: str,
        device: torch.device,
        *,
        find_crossing: bool = False,
    ) -> None:
        """Create a curve.

        Args:
            build_step: builds the step to measure at a size.
            sizes: sizes to measure.
            unit: unit of the sizes.
            device: device that the steps use.
            find_crossing: whether to fit the size at which the quadratic part dominates.
        """
        self.build_step, self.sizes, self.unit, self.device = build_step, sizes, unit, device
        self.find_crossing = find_crossing

    @cached_property
    def steps(self) -> dict[int, Callable[[], object]]:
        """Steps to measure, by size."""
        return {size: self.build_step(size) for size in self.sizes}

    def measure_times(self) -> dict[int, float]:
        """Measure milliseconds at each size."""
        return {size: 1e3 * measure_seconds(step, self.device) for size, step in self.steps.items()}

    def measure_time(self) -> Measurements:
        """Measure milliseconds at each size, and fit the exponent."""
        times = self.measure_times()
        where = fit_crossing(times) if self.find_crossing else None
        return self.format_measurements("step_ms", times, {} if where is None else {f"crossing_{self.unit}": where})

    def measure_memory(self) -> Measurements:
        """Measure MiB at each size, and fit the exponent."""
        return self.format_measurements(
            "peak_mib", {n: measure_peak_bytes(step, self.device) / MIB for n, step in self.steps.items()}
        )

    def format_measurements(
        self, key: str, curve: Mapping[int, float], others: Mapping[str, float] | None = None
    ) -> Measurements:
        """Build the keys and values of a curve.

        Args:
            key: name of the number.
            curve: value by size.
            others: values to insert between the exponent and the curve.
        """
        slope = fit_exponent(curve)
        fitted = {} if slope is None else {key + EXPONENT: slope}
        return (
            fitted
            | dict(others or {})
            | {format_sized_key(key, size, self.unit): number for size, number in curve.items()}
        )


def fit_exponent(curve: Mapping[int, float]) -> float | None:
    """Fit the exponent p of number ~ size^p over the sizes that `FIT_NOTE` describes; None for fewer than two sizes."""
    sizes = sorted(curve)[-max(_MIN_FITTED_SIZES, math.ceil(len(curve) / 2)) :]
    if len(sizes) < 2:
        return None
    return linear_regression([math.log(n) for n in sizes], [math.log(curve[n]) for n in sizes]).slope


def fit_crossing(curve: Mapping[int, float]) -> float | None:
    """Fit the size n at which c n^2 exceeds b n in a + b n + c n^2.

    The fit minimizes squared relative errors, so that small sizes count too, with a, b, c >= 0.

    Returns:
        b / c; None for fewer than three sizes, or if b or c is 0.
    """
    if len(curve) < 3:
        return None
    sizes, numbers = np.array(list(curve), float), np.array(list(curve.values()))
    terms = np.stack([sizes**power / numbers for power in range(3)], axis=1)
    (_, linear, square), _ = nnls(terms, np.ones(len(sizes)))
    return float(linear / square) if linear > 0 and square > 0 else None
