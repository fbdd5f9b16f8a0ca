"""Compare a committed table with the table of the same runs, trained again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from attnbench.metrics.statistics import LEVEL, Summary
from attnbench.reporting.aggregation import Table
from attnbench.reporting.cells import Cell
from attnbench.reporting.layout import Column


class Outcome(Enum):
    """Result of training the runs of a cell again."""

    same = "the same"  # all digits of mean and deviation
    inside = "inside the interval"
    outside = "outside the interval"
    missing = "missing"


@dataclass(frozen=True)
class CellComparison:
    """One cell of the committed table and of the new one."""

    row: str
    column: str
    committed: str
    found: str
    outcome: Outcome


def compare_tables(committed: Table, found: Table) -> Iterator[CellComparison]:
    """Compare the cells of all columns that say which direction is better.

    Args:
        committed: table of the committed records.
        found: table of the new records, with the same layout.
    """
    rows = {row.labels: row for row in found.rows}
    for row in committed.rows:
        name = ", ".join(
            f"{key.label or key.key}={label}" for key, label in zip(committed.keys, row.labels, strict=True)
        )
        other = rows.get(row.labels)
        for index, (column, cell) in enumerate(zip(committed.columns, row.cells, strict=True)):
            if column.best is None or column.key.startswith("performance."):  # speed differs between machines
                continue
            new = None if other is None else other.cells[index]
            yield CellComparison(name, column.heading, _format(cell), _format(new), _compare(cell, new, column))


def _compare(committed: Cell, found: Cell | None, column: Column) -> Outcome:
    if found is None or found.summary is None or committed.summary is None:
        return Outcome.same if found is not None and found.value == committed.value else Outcome.missing
    ours, theirs = found.summary, committed.summary
    if (ours.mean, ours.std, ours.n) == (theirs.mean, theirs.std, theirs.n):
        return Outcome.same
    return Outcome.inside if abs(ours.mean - theirs.mean) <= _compute_reach(theirs, ours.n) else Outcome.outside


def _compute_reach(committed: Summary, count: int) -> float:
    """Return how far the mean of `count` new runs lies from the committed mean in 95 % of cases."""
    if committed.std is None or committed.n < 2:
        return 0.0
    from scipy import stats  # type: ignore[import-untyped]

    limit = stats.t.ppf((1 + LEVEL) / 2, committed.n - 1)
    return float(limit * committed.std * math.sqrt(1 / committed.n + 1 / count))


def _format(cell: Cell | None) -> str:
    return "none" if cell is None else f"{cell.value} {cell.spread}".strip()
