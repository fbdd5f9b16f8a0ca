"""Compare table rows with their baselines: which row, on which seeds, and which differences are significant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnbench.reporting.cells import get_run_value, is_number
from attnbench.reporting.keys import Best
from attnbench.reporting.layout import Column, Layout, config_matches
from attnbench.reporting.runs import ABSENT, Run
from attnbench.reporting.statistics import (
    ALPHA,
    correct_with_holm,
    count_pairs_needed,
    paired_permutation_test,
    smallest_possible_p,
)

Rows = Sequence[Sequence[Run]]  # for each row, runs that differ only in their seed


def find_baselines(rows: Rows, keys: Sequence[str], baseline_values: Mapping[str, Any]) -> list[int | None]:
    """Find the baseline of each row.

    If several rows match `baseline_values`, the baseline of a row is the one with the same values in all other `keys`.

    Args:
        rows: runs of each row.
        keys: config keys that part the rows.
        baseline_values: config keys and values of the baseline.

    Returns:
        For each row the index of its baseline; None for a baseline itself and for a row without one.
    """
    chosen = [
        place for place, runs in enumerate(rows) if baseline_values and config_matches(runs[0].config, baseline_values)
    ]
    if not chosen:
        return [None] * len(rows)
    others = [key for key in keys if key not in baseline_values]

    def values(place: int) -> list[Any]:
        return [rows[place][0].config.get(key, ABSENT) for key in others]

    found: list[int | None] = []
    for place in range(len(rows)):
        same = chosen if len(chosen) == 1 else [base for base in chosen if values(base) == values(place)]
        found.append(None if place in chosen or not same else same[0])
    return found


def sort_by_group(
    rows: Rows, keys: Sequence[str], baselines: Sequence[int | None], layout: Layout
) -> list[tuple[int, str]]:
    """Sort rows by the groups of the layout; baselines come first.

    Returns:
        Row indices in their new order, each with the label of its group.
    """
    found = []
    for place, base in enumerate(baselines):
        rank, label = (-1, "") if base is None else (len(layout.groups), "")
        if base is not None:
            ours, theirs = rows[place][0].config, rows[base][0].config
            differing = {key for key in keys if ours.get(key, ABSENT) != theirs.get(key, ABSENT)}
            fitting = [at for at, group in enumerate(layout.groups) if differing <= set(group.keys)]
            rank, label = (fitting[0], layout.groups[fitting[0]].label) if fitting else (rank, label)
        found.append((rank, place, label))
    return [(place, label) for _, place, label in sorted(found)]


def select_common_seeds(
    ours: Sequence[Run], baseline: Sequence[Run], column: Column
) -> tuple[list[float], list[float]]:
    """Return the values of two rows at the seeds where both have a number, sorted by seed.

    Args:
        ours: runs of our row.
        baseline: runs of the baseline.
        column: the column.
    """
    mine, theirs = get_values_by_seed(ours, column), get_values_by_seed(baseline, column)
    seeds = sorted(mine.keys() & theirs.keys())
    return [mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]


def get_values_by_seed(runs: Sequence[Run], column: Column) -> dict[int, float]:
    """Return the numbers of a row's runs by seed."""
    found = {run.config["seed"]: get_run_value(run, column)[1] for run in runs}
    return {seed: value for seed, value in found.items() if is_number(value)}


def collect_paired_values(
    rows: Rows, baselines: Sequence[int | None], column: Column
) -> dict[int, tuple[list[float], list[float]]]:
    """Collect the values that a test over seeds compares: one family of comparisons for Holm's correction.

    Args:
        rows: runs of each row.
        baselines: index of each row's baseline.
        column: the column.

    Returns:
        By row, its values and its baseline's on their common seeds. Rows without a common seed are left out: they are
        not tested and do not count in the correction.
    """
    found = {
        place: select_common_seeds(rows[place], rows[base], column)
        for place, base in enumerate(baselines)
        if base is not None
    }
    return {place: values for place, values in found.items() if values[0]}


def find_significant_rows(rows: Rows, baselines: Sequence[int | None], column: Column) -> set[int]:
    """Find rows that differ from their baselines at p < 0.05 (paired permutation test over seeds, Holm's correction).

    No test is computed where the number of seeds cannot give p < 0.05.

    Args:
        rows: runs of each row.
        baselines: index of each row's baseline.
        column: the column.

    Returns:
        Indices of the rows.
    """
    ps = {
        place: (paired_permutation_test(ours, theirs).p or 0.0) if smallest_possible_p(len(ours)) < ALPHA else 1.0
        for place, (ours, theirs) in collect_paired_values(rows, baselines, column).items()
    }
    return {place for place, p in zip(ps, correct_with_holm(list(ps.values())), strict=True) if p < ALPHA}


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


def describe_missing_baseline(baseline_values: Mapping[str, Any]) -> str:
    """Return a sentence part that says that no row is the baseline."""
    return f"no row has {', '.join(f'{key}={value}' for key, value in baseline_values.items())}"


def write_power_note(rows: Rows, baselines: Sequence[int | None], columns: Sequence[Column]) -> str:
    """Write a sentence about the tests over seeds, or that there are too few seeds for them.

    The sentence is about the column with the best chance to show a difference.

    Args:
        rows: runs of each row.
        baselines: index of each row's baseline.
        columns: columns with tests.
    """
    families = [
        [len(ours) for ours, _ in collect_paired_values(rows, baselines, column).values()] for column in columns
    ]
    seeds = max(filter(None, families), key=lambda one: max(one) - count_pairs_needed(len(one)), default=[])
    if not seeds:
        return "No seed has a number both in the baseline and in another row, so that none can be compared with it."
    test = "exact paired permutation test over seeds, Holm's correction within a column"
    pairs, comparisons, needed = max(seeds), len(seeds), count_pairs_needed(len(seeds))
    if pairs >= needed:
        sentence = f"*: differs from the baseline ({test}; p < {ALPHA})."
        few = len([n for n in seeds if n < count_pairs_needed()])
        if few:
            sentence += (
                f" {few} of {comparisons} comparisons have under {count_pairs_needed()} common seeds, which can show"
                " none."
            )
    else:
        sentence = (
            f"With {pairs} common seed{'s' * (pairs > 1)} no difference from the baseline can be distinguished from"
            f" chance: the smallest p that there can be is {smallest_possible_p(pairs):g}; {comparisons} comparison"
            f"{'s need' if comparisons > 1 else ' needs'} {needed} seeds ({test})."
        )
    left_out = len([base for base in baselines if base is not None]) - comparisons
    return sentence + (f" Rows without a common seed ({left_out}) are not compared." if left_out else "")
