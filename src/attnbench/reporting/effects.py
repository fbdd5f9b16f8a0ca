"""Compute main effects and two-way interactions of config keys in a full grid of settings."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.metrics.statistics import Summary
from attnbench.records.record import RecordError
from attnbench.reporting.aggregation import GroupedRuns, Row, Table
from attnbench.reporting.cells import Cell, build_cell, format_number, format_signed
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import ABSENT

_COLUMNS = (Column("mean"), Column("effect", label="effect"), Column("settings", label="averaged over"))
_MAX_LISTED = 6  # missing cells that are listed
_Setting = tuple[Any, ...]  # a value for each factor


@dataclass(frozen=True)
class _FactorialGrid:
    """Grid of settings in one column, possibly incomplete."""

    factors: tuple[RowKey, ...]
    levels: tuple[tuple[Any, ...], ...]  # of each factor
    cells: Mapping[_Setting, Cell]

    def format_setting(self, factor_indices: Sequence[int], values: Sequence[Any]) -> str:
        """Format the levels of some factors."""
        return ", ".join(
            self.factors[place].format_value(value) for place, value in zip(factor_indices, values, strict=True)
        )


def build_effects_table(grouped: GroupedRuns, layout_path: str, title: str) -> Table:
    """Build the table of main effects and two-way interactions, for each column that says which direction is better.

    The levels of a factor are averaged over those settings of the other factors that have a number at every level.
    The table says how many settings these are, and which cells are missing.

    Args:
        grouped: runs grouped into rows.
        layout_path: path of table.yaml, for error messages.
        title: title of the sweep's table.

    Raises:
        RecordError: no column says which direction is better, or no row key has two values.
    """
    columns = [column for column in grouped.columns if column.best is not None]
    places = [
        at
        for at, key in enumerate(grouped.keys)
        if len({row[0].config.get(key.key, ABSENT) for row in grouped.rows}) > 1
    ]
    if not columns or not places:
        wanted = "rows: expected a key with two values" if columns else "columns: expected best: max or min in one"
        raise RecordError(f"{layout_path}: {wanted}, whose effect is computed")
    factors = tuple(grouped.keys[at] for at in places)
    rows: list[Row] = []
    notes = [
        "Effect of a level: its mean less the mean of all levels. Effect of two levels together: what their mean has"
        " beyond the sum of both effects. Means of settings count alike, however many seeds they have."
    ]
    for column in columns:
        cells = {
            tuple(row[0].config.get(key.key, ABSENT) for key in factors): build_cell(row, column)
            for row in grouped.rows
        }
        levels = tuple(tuple(dict.fromkeys(setting[at] for setting in cells)) for at in range(len(factors)))
        grid = _FactorialGrid(factors, levels, cells)
        for chosen in [
            *itertools.combinations(range(len(factors)), 1),
            *itertools.combinations(range(len(factors)), 2),
        ]:
            rows += _build_effect_rows(grid, chosen, column)
        notes += _write_missing_note(grid, column)
    keys = (RowKey("metric"), RowKey("factor"), RowKey("level"))
    return Table(f"{title}: effects", keys, _COLUMNS, tuple(rows), tuple(notes), marks=())


def _build_effect_rows(grid: _FactorialGrid, chosen: tuple[int, ...], column: Column) -> Iterator[Row]:
    """Yield a row for each combination of levels of the chosen factors."""
    others = [at for at in range(len(grid.factors)) if at not in chosen]
    combinations = list(itertools.product(*(grid.levels[at] for at in chosen)))
    blocks: dict[_Setting, dict[_Setting, Cell]] = {}
    for setting, cell in grid.cells.items():
        if cell.summary is not None:
            block = blocks.setdefault(tuple(setting[at] for at in others), {})
            block[tuple(setting[at] for at in chosen)] = cell
    complete = [block for block in blocks.values() if len(block) == len(combinations)]
    total = math.prod(len(grid.levels[at]) for at in others)
    counted = f"{len(complete)} of {total} settings" if others else ""
    name = " x ".join(grid.factors[at].label or grid.factors[at].key for at in chosen)
    means = {
        levels: statistics.fmean(found)
        for levels in combinations
        if (found := [s.mean for block in complete if (s := block[levels].summary) is not None])
    }
    for levels in combinations:
        labels = (column.heading, name, grid.format_setting(chosen, levels))
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
        effect = _compute_effect(means, levels)
        yield Row(
            labels,
            (
                Cell(
                    Summary(means[levels], None, len(complete)), format_number(means[levels], column), "", "", run_ids
                ),
                Cell(Summary(effect, None, len(complete)), format_signed(effect, column), "", "", run_ids),
                Cell(None, f"{counted}, {len(run_ids)} runs".removeprefix(", "), "", "", run_ids),
            ),
            ((),) * len(_COLUMNS),
        )


def _compute_effect(means: Mapping[_Setting, float], levels: _Setting) -> float:
    """Compute the difference to the grand mean; for two levels, the part beyond the sum of both main effects."""
    grand = statistics.fmean(means.values())
    if len(levels) == 1:
        return means[levels] - grand
    each = [statistics.fmean(mean for at, mean in means.items() if at[side] == levels[side]) for side in (0, 1)]
    return means[levels] - sum(each) + grand


def _write_missing_note(grid: _FactorialGrid, column: Column) -> Iterator[str]:
    """Yield a note that lists the settings of the full grid without a number, and why."""
    lacking = []
    for setting in itertools.product(*grid.levels):
        cell = grid.cells.get(setting)
        if cell is None or cell.summary is None:
            named = ", ".join(
                f"{factor.label or factor.key} {factor.format_value(value)}"
                for factor, value in zip(grid.factors, setting, strict=True)
            )
            lacking.append(f"{named} ({'not planned' if cell is None else cell.missing or cell.value})")
    if lacking:
        more = f"; and {len(lacking) - _MAX_LISTED} more" if len(lacking) > _MAX_LISTED else ""
        yield f"{column.heading}: no number for {'; '.join(lacking[:_MAX_LISTED])}{more}."
