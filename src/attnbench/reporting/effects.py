"""What one factor does, averaged over the others, and what two do beyond the sum of each: for a full grid."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.records.record import RecordError
from attnbench.reporting.aggregation import Row, Sorted, Table
from attnbench.reporting.cells import Cell, build_cell, number_text, signed
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import ABSENT
from attnbench.reporting.statistics import Summary

_COLUMNS = (Column("mean"), Column("effect", label="effect"), Column("settings", label="averaged over"))
_SHOWN = 6  # missing cells that are spelt out
_Setting = tuple[Any, ...]  # a value for each factor


@dataclass(frozen=True)
class _Factorial:
    """A grid of settings, as far as it is filled, in one column."""

    factors: tuple[RowKey, ...]
    levels: tuple[tuple[Any, ...], ...]  # of each factor
    cells: Mapping[_Setting, Cell]

    def named(self, places: Sequence[int], values: Sequence[Any]) -> str:
        """What some factors' values are called."""
        return ", ".join(self.factors[place].text(value) for place, value in zip(places, values, strict=True))


def effects(made: Sorted, where: str, title: str) -> Table:
    """Main effects and two-way interactions, in each column that says which end is better.

    A factor's levels are averaged over those settings of the other factors that have a number at every level, so that
    what is missing at one level is missing at all; how many settings that are is told, and which cells are missing.

    Raises:
        RecordError: no column says which end is better, or no row key has two values.
    """
    columns = [column for column in made.columns if column.best is not None]
    places = [
        at for at, key in enumerate(made.keys) if len({row[0].config.get(key.key, ABSENT) for row in made.rows}) > 1
    ]
    if not columns or not places:
        wanted = "rows: expected a key with two values" if columns else "columns: expected best: max or min in one"
        raise RecordError(f"{where}: {wanted}, to say what it does")
    factors = tuple(made.keys[at] for at in places)
    rows: list[Row] = []
    notes = [
        "Effect of a level: its mean less the mean of all levels. Effect of two levels together: what their mean has"
        " beyond the sum of both effects. Means of settings count alike, however many seeds they have."
    ]
    for column in columns:
        cells = {
            tuple(row[0].config.get(key.key, ABSENT) for key in factors): build_cell(row, column) for row in made.rows
        }
        levels = tuple(tuple(dict.fromkeys(setting[at] for setting in cells)) for at in range(len(factors)))
        grid = _Factorial(factors, levels, cells)
        for chosen in [
            *itertools.combinations(range(len(factors)), 1),
            *itertools.combinations(range(len(factors)), 2),
        ]:
            rows += _of(grid, chosen, column)
        notes += _missing(grid, column)
    keys = (RowKey("metric"), RowKey("factor"), RowKey("level"))
    return Table(f"{title}: effects", keys, _COLUMNS, tuple(rows), tuple(notes), marks=())


def _of(grid: _Factorial, chosen: tuple[int, ...], column: Column) -> Iterator[Row]:
    """A row for each combination of levels of the chosen factors."""
    others = [at for at in range(len(grid.factors)) if at not in chosen]
    combinations = list(itertools.product(*(grid.levels[at] for at in chosen)))
    blocks: dict[_Setting, dict[_Setting, Cell]] = {}
    for setting, cell in grid.cells.items():
        if cell.summary is not None:
            block = blocks.setdefault(tuple(setting[at] for at in others), {})
            block[tuple(setting[at] for at in chosen)] = cell
    complete = [block for block in blocks.values() if len(block) == len(combinations)]
    asked = math.prod(len(grid.levels[at]) for at in others)
    counted = f"{len(complete)} of {asked} settings" if others else ""
    name = " x ".join(grid.factors[at].label or grid.factors[at].key for at in chosen)
    means = {
        levels: statistics.fmean(found)
        for levels in combinations
        if (found := [s.mean for block in complete if (s := block[levels].summary) is not None])
    }
    for levels in combinations:
        labels = (column.heading, name, grid.named(chosen, levels))
        if not means:
            reason = "no setting of the other factors is complete" if others else "not all levels have a number"
            cells = [
                Cell(None, reason, "", reason, ()),
                Cell(None, ABSENT, "", reason, ()),
                Cell(None, counted, "", "", ()),
            ]
            yield Row(labels, tuple(cells), ((),) * len(_COLUMNS))
            continue
        run_ids = tuple(run_id for block in complete for run_id in block[levels].run_ids)
        effect = _effect(means, levels)
        yield Row(
            labels,
            (
                Cell(Summary(means[levels], None, len(complete)), number_text(means[levels], column), "", "", run_ids),
                Cell(Summary(effect, None, len(complete)), signed(effect, column), "", "", run_ids),
                Cell(None, f"{counted}, {len(run_ids)} runs".removeprefix(", "), "", "", run_ids),
            ),
            ((),) * len(_COLUMNS),
        )


def _effect(means: Mapping[_Setting, float], levels: _Setting) -> float:
    """What `levels` have beyond the mean of all, and, if they are two, beyond the effect of each."""
    grand = statistics.fmean(means.values())
    if len(levels) == 1:
        return means[levels] - grand
    each = [statistics.fmean(mean for at, mean in means.items() if at[side] == levels[side]) for side in (0, 1)]
    return means[levels] - sum(each) + grand


def _missing(grid: _Factorial, column: Column) -> Iterator[str]:
    """Which settings of the full grid have no number, and why."""
    lacking = []
    for setting in itertools.product(*grid.levels):
        cell = grid.cells.get(setting)
        if cell is None or cell.summary is None:
            named = ", ".join(
                f"{factor.label or factor.key} {factor.text(value)}"
                for factor, value in zip(grid.factors, setting, strict=True)
            )
            lacking.append(f"{named} ({'not planned' if cell is None else cell.missing or cell.value})")
    if lacking:
        more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        yield f"{column.heading}: no number for {'; '.join(lacking[:_SHOWN])}{more}."
