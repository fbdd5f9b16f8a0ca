"""Tests that look several times at growing numbers of seeds, with the error rate of one test.

Group-sequential tests with a constant nominal level (Pocock 1977). The published levels are for known variances; with
a few seeds the variance is estimated, so the distribution of the smallest p over all looks is simulated here. A p-value
that is corrected for the looks is the share of simulated series without a difference whose smallest p is as small.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnbench.metrics.statistics import paired_t_test

if TYPE_CHECKING:
    import numpy as np

_SIMULATED_SERIES = 200_000


def compute_sequential_p(differences: Sequence[float], looks: Sequence[int]) -> float | None:
    """Compute the p-value of a mean difference, corrected for looking several times.

    Args:
        differences: our values less the baseline's, in the order in which they were measured.
        looks: planned numbers of pairs, increasing.

    Returns:
        Corrected p of the looks so far; None before the first look, or if no look has a p.
    """
    found = []
    for look in looks:
        if look <= len(differences):
            p = paired_t_test(differences[:look], [0.0] * look).p
            found += [] if p is None else [p]
    return correct_for_looks(min(found), looks) if found else None


def correct_for_looks(p: float, looks: Sequence[int]) -> float:
    """Return the probability that the smallest p of all looks is at most `p` if there is no difference.

    Args:
        p: smallest uncorrected p so far.
        looks: planned numbers of pairs, increasing.
    """
    import numpy as np

    smallest = _simulate_smallest_p(tuple(looks))
    share = float(np.searchsorted(smallest, p, side="right")) / len(smallest)
    return min(1.0, max(share, p))


def compute_nominal_level(level: float, looks: Sequence[int]) -> float:
    """Return the level for each look with which all looks together have the given level.

    Args:
        level: probability of a wrong decision over all looks.
        looks: planned numbers of pairs, increasing.
    """
    import numpy as np

    return float(np.quantile(_simulate_smallest_p(tuple(looks)), level))


@functools.cache
def _simulate_smallest_p(looks: tuple[int, ...]) -> np.ndarray:
    """Simulate the smallest p over all looks for normal differences with mean zero; sorted."""
    import numpy as np
    from scipy import special  # type: ignore[import-untyped]

    generator = np.random.default_rng(0)
    sums, squares, count = np.zeros(_SIMULATED_SERIES), np.zeros(_SIMULATED_SERIES), 0
    smallest = np.ones(_SIMULATED_SERIES)
    for look in looks:
        for _ in range(look - count):
            drawn = generator.standard_normal(_SIMULATED_SERIES)
            sums += drawn
            squares += drawn**2
        count = look
        variance = (squares - sums**2 / look) / (look - 1)
        t = np.abs(sums / look) / np.sqrt(variance / look)
        np.minimum(smallest, 2 * special.stdtr(look - 1, -t), out=smallest)
    return np.sort(smallest)
