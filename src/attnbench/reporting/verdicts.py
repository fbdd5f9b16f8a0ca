"""Verdicts in words: what the seeds of a sweep say about each row and its baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from attnbench.metrics.sequential import compute_nominal_level, compute_sequential_p
from attnbench.metrics.statistics import (
    ALPHA,
    MAX_PAIRS,
    PairedComparison,
    compute_detectable_difference,
    correct_with_holm,
    count_pairs_needed,
    is_equivalent,
    paired_t_test,
)
from attnbench.reporting.baselines import Rows, select_common_seeds
from attnbench.reporting.cells import format_number, format_signed
from attnbench.reporting.keys import Best
from attnbench.reporting.layout import Column


@dataclass(frozen=True)
class Comparison:
    """Comparison of one row with its baseline in one column."""

    row_index: int
    baseline_index: int
    found: PairedComparison | None  # None: no common seed
    p: float | None  # after Holm's correction; None: not tested


def compare_rows(
    rows: Rows, baselines: Sequence[int | None], column: Column, looks: Sequence[int] = ()
) -> list[Comparison]:
    """Compare each row with its baseline on their common seeds.

    Args:
        rows: runs of each row.
        baselines: index of each row's baseline.
        column: the column.
        looks: numbers of seeds after which a sweep that chooses its seeds has looked; p is corrected for them.
    """
    pairs = [(place, base) for place, base in enumerate(baselines) if base is not None]
    found = []
    for place, base in pairs:
        ours, theirs = select_common_seeds(rows[place], rows[base], column)
        one = paired_t_test(ours, theirs) if ours else None
        if one is not None and looks:
            one = replace(one, p=compute_sequential_p([a - b for a, b in zip(ours, theirs, strict=True)], looks))
        found.append(one)
    # A row with common seeds is tested, also if its seeds show nothing.
    corrected = iter(correct_with_holm([1.0 if one.p is None else one.p for one in found if one is not None]))
    comparisons = []
    for (place, base), one in zip(pairs, found, strict=True):
        p = None if one is None else next(corrected)
        comparisons.append(Comparison(place, base, one, None if one is None or one.p is None else p))
    return comparisons


def write_verdicts(
    comparisons: Sequence[Comparison],
    names: Sequence[tuple[str, str]],
    column: Column,
    looks: Sequence[int] = (),
) -> Iterator[str]:
    """Yield a sentence for each comparison, and one about the test.

    Args:
        comparisons: result of `compare_rows`.
        names: names of the row and of its baseline, for each comparison.
        column: the column; it says which direction is better.
        looks: see `compare_rows`.
    """
    count = len([one for one in comparisons if one.found is not None])
    if len(comparisons) > 1 and all(one.found is not None and one.found.n == 1 for one in comparisons):
        yield (
            "Cannot tell whether rows differ from their baselines: one common seed does not show the spread over seeds."
        )
        return
    for one, (ours, theirs) in zip(comparisons, names, strict=True):
        yield _write_verdict(one, ours, theirs, column, count)
    if count:
        corrected = f", corrected for {count} comparisons (Holm 1979)" if count > 1 else ""
        yield (
            f"Verdicts: {column.heading}, paired t-test over the seeds that both rows have, two-sided{corrected}; with"
            " 95 % confidence intervals (Student's t, not corrected). The test assumes approximately normal"
            " differences."
        )
    if looks:
        yield (
            f"Seeds were added until a comparison was decided, with looks after {', '.join(map(str, looks))} seeds. p"
            " is corrected for all looks (group-sequential test with a constant nominal level, Pocock 1977; the level"
            f" is {compute_nominal_level(ALPHA, looks):.3g} a look, by simulation), then for the comparisons."
        )


def _write_verdict(one: Comparison, ours: str, theirs: str, column: Column, count: int) -> str:
    found = one.found
    if found is None:
        return f"{ours} and {theirs} have no seed in common, so that they are not compared."
    if found.p is None or found.std is None or one.p is None:
        reason = (
            "one common seed does not show"
            if found.n == 1
            else f"all {found.n} common seeds have the same difference, which does not show"
        )
        return (
            f"Cannot tell whether {ours} differs from {theirs}: {reason} the spread over seeds (difference"
            f" {format_signed(found.difference, column)})."
        )
    facts = _format_facts(found, one.p, column, count)
    if one.p < ALPHA:
        is_better = (found.difference > 0) is (column.best is Best.max)
        verb = "is better than" if is_better else "is worse than"
        amount = format_number(abs(found.difference), column)
        return f"{ours} {verb} {theirs} by {amount} {_format_metric(column)} {facts}."
    if column.margin is not None and is_equivalent(found, column.margin):
        margin = format_number(column.margin, column)
        within = f"{margin} {_format_metric(column)}"
        return f"{ours} and {theirs} are the same within {within} (two one-sided tests; {facts[1:]}."
    detectable = format_number(compute_detectable_difference(found.std, found.n, count), column)
    needed = count_pairs_needed(found.difference, found.std, count) if found.difference else None
    seeds = f"about {needed}" if needed is not None else f"more than {MAX_PAIRS:,}"
    difference = f"{format_signed(found.difference, column)} {_format_metric(column)}"
    return (
        f"Cannot tell whether {ours} differs from {theirs}: difference {difference} {facts}. {found.n} seeds find"
        f" differences from {detectable} on in 80 % of cases; one of this size needs {seeds}."
    )


def _format_metric(column: Column) -> str:
    label = column.heading.removesuffix(f" ({column.unit})")
    return f"{column.unit} {label}" if column.unit else label


def _format_facts(found: PairedComparison, p: float, column: Column, count: int) -> str:
    """Format interval, number of seeds and p, in brackets."""
    ends = found.interval
    interval = "" if ends is None else f"95 % interval {' to '.join(format_signed(end, column) for end in ends)}, "
    shown = "p<0.001" if p < 0.001 else f"p={p:.2g}"
    return f"({interval}n={found.n}, {shown}{' after Holm' if count > 1 else ''})"


def find_significant_rows(
    rows: Rows, baselines: Sequence[int | None], column: Column, looks: Sequence[int] = ()
) -> set[int]:
    """Find rows that differ from their baselines at p < 0.05 (paired t-test over seeds, Holm's correction).

    Args:
        rows: runs of each row.
        baselines: index of each row's baseline.
        column: the column.
        looks: see `compare_rows`.

    Returns:
        Indices of the rows.
    """
    return {
        one.row_index for one in compare_rows(rows, baselines, column, looks) if one.p is not None and one.p < ALPHA
    }


def find_bold_rows(rows: Rows, means: Mapping[int, float], column: Column, *, include_not_worse: bool) -> set[int]:
    """Find the rows to print in bold in one column.

    Args:
        rows: runs of each row.
        means: mean by row index; rows without a number are missing.
        column: the column; it says whether larger or smaller is better.
        include_not_worse: also return rows that do not differ significantly from the best one.

    Returns:
        Indices of the rows.
    """
    choose = max if column.best is Best.max else min
    best = choose(means, key=lambda place: means[place])
    if not include_not_worse:
        return {best}
    baselines = [best if place in means and place != best else None for place in range(len(rows))]
    return set(means) - find_significant_rows(rows, baselines, column)
