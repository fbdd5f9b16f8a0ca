"""Looking several times at growing numbers of seeds: the error rate holds, and seeds are saved."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from attnbench.metrics.sequential import compute_nominal_level, compute_sequential_p, correct_for_looks
from attnbench.metrics.statistics import correct_with_holm

LOOKS = (3, 5, 10, 20)


def simulate_sweeps(effects: list[float], sweeps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulate sweeps that stop seeds as `sweep.seeds` does, with scipy's own t-test.

    Args:
        effects: true differences of the settings from the baseline, in standard deviations.
        sweeps: number of sweeps.
        seed: seed of the random numbers.

    Returns:
        decided_SC, whether each comparison was decided, and seeds_SC, the seeds that it got.
    """
    generator = np.random.default_rng(seed)
    differences_SCN = generator.normal(np.array(effects)[:, None], 1.0, (sweeps, len(effects), LOOKS[-1]))
    smallest_SC = np.ones((sweeps, len(effects)))
    decided_SC = np.zeros((sweeps, len(effects)), dtype=bool)
    seeds_SC = np.zeros((sweeps, len(effects)), dtype=int)
    for look in LOOKS:
        p_SC = stats.ttest_1samp(differences_SCN[:, :, :look], 0, axis=2).pvalue
        smallest_SC = np.where(decided_SC, smallest_SC, np.minimum(smallest_SC, p_SC))
        seeds_SC[~decided_SC] = look
        corrected = [correct_with_holm([correct_for_looks(p, LOOKS) for p in ps]) for ps in smallest_SC.tolist()]
        decided_SC |= np.array(corrected) < 0.05
    return decided_SC, seeds_SC


@pytest.mark.parametrize("comparisons", [1, 3])
def test_without_a_difference_at_most_five_percent_of_sweeps_declare_one(comparisons: int) -> None:
    decided, _ = simulate_sweeps([0.0] * comparisons, 4000, seed=comparisons)
    assert 0.03 <= decided.any(axis=1).mean() <= 0.06  # 0.05 +- 3 standard errors


def test_a_true_null_beside_real_differences_keeps_its_error_rate() -> None:
    decided, _ = simulate_sweeps([3.0, 3.0, 0.0], 4000, seed=4)
    assert decided[:, :2].all(axis=1).mean() > 0.99
    assert decided[:, 2].mean() <= 0.06


@pytest.mark.parametrize(("effect", "seeds", "power"), [(2.0, 6.3, 0.99), (1.0, 12.8, 0.95)])
def test_real_differences_are_found_with_few_seeds(effect: float, seeds: float, power: float) -> None:
    decided, numbers = simulate_sweeps([effect], 4000, seed=5)
    assert decided.mean() >= power
    assert numbers.mean() == pytest.approx(seeds, abs=0.3)


def test_the_level_of_a_look_is_between_bonferroni_and_one_test() -> None:
    assert compute_nominal_level(0.05, LOOKS) == pytest.approx(0.0150, abs=0.0005)
    assert compute_nominal_level(0.05, (5,)) == pytest.approx(0.05, abs=0.002)
    assert correct_for_looks(compute_nominal_level(0.05, LOOKS), LOOKS) == pytest.approx(0.05, abs=0.001)
    assert correct_for_looks(1e-9, LOOKS) == 1e-9, "never below the uncorrected p"
    assert correct_for_looks(1.0, LOOKS) == 1.0


def test_a_p_that_was_small_at_an_earlier_look_stays() -> None:
    differences = [1.0, 1.01, 0.99, -5.0, 6.0]
    first = compute_sequential_p(differences[:3], LOOKS)
    assert first is not None
    assert first < 0.01
    assert compute_sequential_p(differences, LOOKS) == first
    assert compute_sequential_p(differences[:2], LOOKS) is None, "before the first look"
    assert compute_sequential_p([1.0] * 5, LOOKS) is None, "no spread"
