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
_MIN_FOR_INTERVAL = 3
_MAX_EXACT_RESAMPLES = 2**14  # up to this many sign flips the test is exact


@dataclass(frozen=True)
class Summary:
    """Mean, spread and size of a sample."""

    mean: float
    std: float | None  # sample standard deviation (n - 1); None if n = 1
    n: int
    interval: tuple[float, float] | None = None  # Student's 95 % interval of the mean, if requested


@dataclass(frozen=True)
class PairedComparison:
    """Result of a paired permutation test: our values less the baseline's, at the same seeds."""

    difference: float  # mean
    p: float | None  # two-sided; None if there is one pair only
    n: int
    interval: tuple[float, float] | None  # Student's, of the mean difference


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


def paired_permutation_test(ours: Sequence[float], baseline: Sequence[float]) -> PairedComparison:
    """Test the mean difference of paired values with a paired permutation test (sign flips).

    The test is exact up to 14 pairs. With n pairs the smallest possible p is 2^(1 - n), see `count_pairs_needed`.

    Args:
        ours: our values.
        baseline: the baseline's values, in the same order of seeds.

    Raises:
        ValueError: there are no pairs, or the lengths differ.
    """
    differences = [a - b for a, b in zip(ours, baseline, strict=True)]
    summary = summarize(differences, interval=True)
    if summary.n == 1:
        return PairedComparison(summary.mean, None, 1, None)
    import numpy as np
    from scipy import stats

    def mean_difference(a: Any, b: Any, axis: int) -> Any:
        return np.mean(a - b, axis=axis)

    found = stats.permutation_test(
        (np.asarray(ours, dtype=float), np.asarray(baseline, dtype=float)),
        mean_difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_MAX_EXACT_RESAMPLES,
        rng=np.random.default_rng(0),
    )
    return PairedComparison(summary.mean, float(found.pvalue), summary.n, summary.interval)


def smallest_possible_p(pairs: int) -> float:
    """Return the smallest p that `paired_permutation_test` can give with this number of pairs."""
    return min(1.0, 2.0 ** (1 - pairs))


def count_pairs_needed(comparisons: int = 1) -> int:
    """Return the number of pairs that `paired_permutation_test` needs for p < 0.05, after Holm's correction."""
    pairs = 1
    while smallest_possible_p(pairs) * comparisons >= ALPHA:
        pairs += 1
    return pairs


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
