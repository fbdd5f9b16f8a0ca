"""Statistics over seeds and over test outputs. scipy and sacrebleu are imported only when needed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

LEVEL = 0.95  # of confidence intervals
ALPHA = 0.05  # significance level
POWER = 0.8  # share of cases in which a difference is to be found, where the number of seeds is planned
_MIN_FOR_INTERVAL = 3
MAX_PAIRS = 1000  # largest number of pairs that is looked for
_ROUNDING = 1e-12  # differences that vary less, relative to the values, are equal


@dataclass(frozen=True)
class Summary:
    """Mean, spread and size of a sample."""

    mean: float
    std: float | None  # sample standard deviation (n - 1); None if n = 1
    n: int
    interval: tuple[float, float] | None = None  # Student's 95 % interval of the mean, if requested


@dataclass(frozen=True)
class PairedComparison:
    """Result of a paired t-test: our values less the baseline's, at the same seeds."""

    difference: float  # mean
    p: float | None  # two-sided; None if there is one pair only, or if all differences are equal
    n: int
    interval: tuple[float, float] | None  # Student's, of the mean difference
    std: float | None = None  # sample standard deviation of the differences; None if there is one pair only


class OutputTest(Enum):
    """Significance test of sacrebleu over test sentences."""

    bootstrap = "bs"  # paired bootstrap resampling: Koehn 2004
    randomization = "ar"  # paired approximate randomization: Riezler and Maxwell 2005


def summarize(values: Sequence[float], *, interval: bool = False) -> Summary:
    """Compute mean and sample standard deviation; with `interval`, also the confidence interval of the mean.

    Args:
        values: finite numbers.
        interval: whether to compute `compute_mean_interval`.

    Raises:
        ValueError: `values` is empty.
    """
    if not values:
        raise ValueError("expected at least one value")
    std = statistics.stdev(values) if len(values) > 1 else None
    found = compute_mean_interval(values) if interval else None
    return Summary(mean=statistics.fmean(values), std=std, n=len(values), interval=found)


def compute_mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Compute Student's 95 % confidence interval of the mean (Student 1908).

    The interval is exact for normal data at every n. A bootstrap interval (BCa) covers the mean in 70 % of samples at
    n = 3 and in 83 % at n = 5, so that it is not used here.

    Returns:
        Both ends; None below three values (the interval would be many times wider than the data), and None if all
        values are equal.
    """
    if len(values) < _MIN_FOR_INTERVAL or len(set(values)) == 1:
        return None
    from scipy import stats  # type: ignore[import-untyped]

    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    low, high = stats.t.interval(LEVEL, len(values) - 1, loc=mean, scale=error)
    return float(low), float(high)


def paired_t_test(ours: Sequence[float], baseline: Sequence[float]) -> PairedComparison:
    """Test the mean difference of paired values with Student's paired t-test (Student 1908).

    p is below 0.05 exactly if the 95 % interval of the difference excludes zero. The test assumes that differences are
    about normal, which a few seeds cannot show. A test without this assumption (a paired permutation test) cannot give
    p < 0.05 below six pairs.

    Args:
        ours: our values.
        baseline: the baseline's values, in the same order of seeds.

    Raises:
        ValueError: there are no pairs, or the lengths differ.
    """
    differences = [a - b for a, b in zip(ours, baseline, strict=True)]
    summary = summarize(differences, interval=True)
    if summary.std is None or summary.std <= _ROUNDING * max(map(abs, [*ours, *baseline])):
        return PairedComparison(summary.mean, None, summary.n, None, summary.std)
    from scipy import stats

    p = float(2 * stats.t.sf(abs(summary.mean) / summary.std * math.sqrt(summary.n), summary.n - 1))
    return PairedComparison(summary.mean, p, summary.n, summary.interval, summary.std)


def is_equivalent(found: PairedComparison, margin: float) -> bool:
    """Test whether a mean difference lies within +- margin: two one-sided tests (Schuirmann 1987) at level 0.05.

    Args:
        found: comparison with at least two pairs.
        margin: largest difference that counts as the same.
    """
    if found.std is None:
        return False
    from scipy import stats

    reach = stats.t.ppf(1 - ALPHA, found.n - 1) * found.std / math.sqrt(found.n)
    return bool(abs(found.difference) + reach < margin)


def compute_power(difference: float, std: float, pairs: int, comparisons: int = 1) -> float:
    """Compute the power of `paired_t_test` for a true difference.

    Args:
        difference: true mean difference.
        std: standard deviation of the differences.
        pairs: number of pairs.
        comparisons: number of comparisons; the level is 0.05 divided by it, as for the smallest p in Holm's procedure.
    """
    import numpy as np
    from scipy import special, stats

    shift, freedom = abs(difference) / std * math.sqrt(pairs), pairs - 1
    limit = stats.t.ppf(1 - ALPHA / comparisons / 2, freedom)
    # The mean over quantiles of the estimated deviation: scipy's noncentral t is NaN for few pairs and large shifts.
    spread = np.sqrt(stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, freedom) / freedom)
    return float(np.mean(special.ndtr(shift - limit * spread) + special.ndtr(-shift - limit * spread)))


def count_pairs_needed(difference: float, std: float, comparisons: int = 1) -> int | None:
    """Return the number of pairs with which `paired_t_test` finds a true difference in 80 % of cases.

    Args:
        difference: true mean difference.
        std: standard deviation of the differences.
        comparisons: see `compute_power`.

    Returns:
        Number of pairs; None if it is above 1,000.
    """
    low, high = 1, 2
    while high <= MAX_PAIRS and not compute_power(difference, std, high, comparisons) >= POWER:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if compute_power(difference, std, middle, comparisons) >= POWER:
            high = middle
        else:
            low = middle
    return high if high <= MAX_PAIRS else None


def compute_detectable_difference(std: float, pairs: int, comparisons: int = 1) -> float:
    """Return the true difference that `paired_t_test` finds in 80 % of cases.

    Args:
        std: standard deviation of the differences.
        pairs: number of pairs, at least two.
        comparisons: see `compute_power`.
    """
    from scipy import optimize

    def lack(effect: float) -> float:
        return compute_power(effect, 1.0, pairs, comparisons) - POWER

    high = 1.0
    while lack(high) < 0:
        high *= 2
    return std * float(optimize.brentq(lack, 0.0, high, xtol=1e-6))


def correct_with_holm(ps: Sequence[float]) -> list[float]:
    """Compute Holm's step-down adjusted p-values (Holm 1979), in the given order.

    scipy has Benjamini and Hochberg's procedure only.
    """
    adjusted, above = [0.0] * len(ps), 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        above = max(above, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = above
    return adjusted


def mcnemar_test(ours: Sequence[bool], baseline: Sequence[bool]) -> float:
    """Compute the p-value of McNemar's exact test (1947) for two classifiers.

    Args:
        ours: whether our classifier is right, for each example of the test set.
        baseline: the same for the other classifier, in the same order.
    """
    from scipy import stats

    alone = sum(a and not b for a, b in zip(ours, baseline, strict=True))
    other = sum(b and not a for a, b in zip(ours, baseline, strict=True))
    return float(stats.binomtest(alone, alone + other).pvalue) if alone + other else 1.0


def paired_output_test(
    ours: Sequence[str], baseline: Sequence[str], references: Sequence[str], signature: str, test: OutputTest
) -> tuple[tuple[float, float], float]:
    """Run sacrebleu's paired significance test, as its command line does.

    Args:
        ours: our translations.
        baseline: translations of the baseline.
        references: reference translations.
        signature: sacreBLEU signature of the score; it says which metric and tokenizer, and whether case counts.
        test: bootstrap or approximate randomization.

    Returns:
        Our score and the baseline's, and the p-value.

    Raises:
        TokenizerError: the tokenizer of the score needs a package or a file that is not installed.
    """
    from sacrebleu.metrics.base import Metric
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.significance import PairedTest

    from attnbench.metrics.tokenization import check_tokenizer, parse_tokenizer

    lowercase, tokenizer = "case:lc" in signature.split("|"), parse_tokenizer(signature)
    scored: Metric = CHRF(lowercase=lowercase)
    if tokenizer is not None:
        check_tokenizer(tokenizer, tokenizer)
        scored = BLEU(lowercase, tokenize=tokenizer, force=True)
    systems: list[tuple[str, Sequence[str]]] = [("baseline", baseline), ("ours", ours)]
    # Its defaults: 1,000 resamples or 10,000 trials, seed 12345 unless SACREBLEU_SEED says otherwise.
    _, scores = PairedTest(systems, {"score": scored}, [references], test_type=test.value, n_samples=0)()
    (column,) = (found for name, found in scores.items() if name != "System")
    (theirs, mine) = cast(Any, column)
    return (float(mine.score), float(theirs.score)), float(mine.p_value)
