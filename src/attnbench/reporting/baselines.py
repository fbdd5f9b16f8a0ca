"""Which row each row is compared with, on which seeds, and which of them a test tells apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnbench.reporting.cells import is_number, value_of
from attnbench.reporting.keys import Best
from attnbench.reporting.layout import Column, Layout, agrees
from attnbench.reporting.runs import ABSENT, Run
from attnbench.reporting.statistics import ALPHA, holm, least_p, paired, pairs_needed

Rows = Sequence[Sequence[Run]]  # of each row its runs, which differ in their seed only


def find_baselines(rows: Rows, keys: Sequence[str], wanted: Mapping[str, Any]) -> list[int | None]:
    """For each row the place of the one to compare it with; None for a baseline itself, and where there is none.

    Of several rows that agree with `wanted`, a row's own is the one that has the same values in all other `keys`.
    """
    chosen = [place for place, runs in enumerate(rows) if wanted and agrees(runs[0].config, wanted)]
    if not chosen:
        return [None] * len(rows)
    others = [key for key in keys if key not in wanted]

    def values(place: int) -> list[Any]:
        return [rows[place][0].config.get(key, ABSENT) for key in others]

    found: list[int | None] = []
    for place in range(len(rows)):
        same = chosen if len(chosen) == 1 else [base for base in chosen if values(base) == values(place)]
        found.append(None if place in chosen or not same else same[0])
    return found


def order_by_group(
    rows: Rows, keys: Sequence[str], baselines: Sequence[int | None], layout: Layout
) -> list[tuple[int, str]]:
    """Places of the rows in the order of the layout's groups, each with its group's label; baselines first."""
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


def on_common_seeds(ours: Sequence[Run], baseline: Sequence[Run], column: Column) -> tuple[list[float], list[float]]:
    """The values of two rows, by seed, of the seeds where both have a number."""
    mine, theirs = by_seed(ours, column), by_seed(baseline, column)
    seeds = sorted(mine.keys() & theirs.keys())
    return [mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]


def by_seed(runs: Sequence[Run], column: Column) -> dict[int, float]:
    """The numbers that a row's runs have, by seed."""
    found = {run.config["seed"]: value_of(run, column)[1] for run in runs}
    return {seed: value for seed, value in found.items() if is_number(value)}


def paired_values(
    rows: Rows, baselines: Sequence[int | None], column: Column
) -> dict[int, tuple[list[float], list[float]]]:
    """Collect the values that a test over seeds compares: one family of comparisons for Holm's correction.

    Returns:
        By row, its values and its baseline's on their common seeds. A row without a common seed is left out: no test is
        made of it, and so it neither counts in the correction nor in what is said of the tests.
    """
    found = {
        place: on_common_seeds(rows[place], rows[base], column)
        for place, base in enumerate(baselines)
        if base is not None
    }
    return {place: values for place, values in found.items() if values[0]}


def told_apart(rows: Rows, baselines: Sequence[int | None], column: Column) -> set[int]:
    """Rows that differ from their baselines by a paired test over seeds at 0.05, Holm's correction made.

    Where there are too few seeds for any difference to be told, nothing is computed.
    """
    ps = {
        place: (paired(ours, theirs).p or 0.0) if least_p(len(ours)) < ALPHA else 1.0
        for place, (ours, theirs) in paired_values(rows, baselines, column).items()
    }
    return {place for place, p in zip(ps, holm(list(ps.values())), strict=True) if p < ALPHA}


def best_of(rows: Rows, means: Mapping[int, float], column: Column, *, tested: bool) -> set[int]:
    """Of the rows with a mean, the best; with `tested`, also those that `told_apart` does not tell from it."""
    choose = max if column.best is Best.max else min
    best = choose(means, key=lambda place: means[place])
    if not tested:
        return {best}
    baselines = [best if place in means and place != best else None for place in range(len(rows))]
    return set(means) - told_apart(rows, baselines, column)


def no_baseline(wanted: Mapping[str, Any]) -> str:
    """What is to be said where no row is what others should be compared with."""
    return f"no row has {', '.join(f'{key}={value}' for key, value in wanted.items())}"


def what_seeds_can_tell(rows: Rows, baselines: Sequence[int | None], columns: Sequence[Column]) -> str:
    """Write a sentence about the tests over seeds, or that there are too few seeds for them.

    It speaks of the column with the best chance to show a difference, and of the family of `paired_values`.
    """
    families = [[len(ours) for ours, _ in paired_values(rows, baselines, column).values()] for column in columns]
    seeds = max(filter(None, families), key=lambda one: max(one) - pairs_needed(len(one)), default=[])
    if not seeds:
        return "No seed has a number both in the baseline and in another row, so that none can be compared with it."
    test = "exact paired permutation test over seeds, Holm's correction within a column"
    pairs, comparisons, needed = max(seeds), len(seeds), pairs_needed(len(seeds))
    if pairs >= needed:
        said = f"*: differs from the baseline ({test}; p < {ALPHA})."
        few = len([n for n in seeds if n < pairs_needed()])
        if few:
            said += (
                f" {few} of {comparisons} comparisons have under {pairs_needed()} common seeds, which can show none."
            )
    else:
        said = (
            f"With {pairs} common seed{'s' * (pairs > 1)} no difference from the baseline can be told from chance: the "
            f"smallest p that there can be is {least_p(pairs):g}; {comparisons} comparison"
            f"{'s need' if comparisons > 1 else ' needs'} {needed} seeds ({test})."
        )
    left_out = len([base for base in baselines if base is not None]) - comparisons
    return said + (f" Rows without a common seed ({left_out}) are not compared." if left_out else "")
