"""Baselines of table rows: which row is the baseline of which, and on which seeds both have numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attnbench.reporting.cells import get_run_value, is_number
from attnbench.reporting.layout import Column, Layout, config_matches
from attnbench.reporting.runs import ABSENT, Run

Rows = Sequence[Sequence[Run]]  # for each row, runs that differ only in their seed


def find_baselines(rows: Rows, keys: Sequence[str], baseline_values: Mapping[str, Any]) -> list[int | None]:
    """Find the baseline of each row.

    If several rows match `baseline_values`, the baseline of a row is the one with the same values in all other `keys`.

    Args:
        rows: runs of each row.
        keys: config keys that separate the rows.
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


def describe_missing_baseline(baseline_values: Mapping[str, Any]) -> str:
    """Return a sentence part that says that no row is the baseline."""
    return f"no row has {', '.join(f'{key}={value}' for key, value in baseline_values.items())}"
