"""From runs and a figure of table.yaml to what is to be drawn, before any drawing: a pure function."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.record import RecordError
from attnbench.report.cells import build_cell, is_number, lookup
from attnbench.report.figure_layout import FigureKind, FigureLayout
from attnbench.report.keys import RowKey
from attnbench.report.layout import Column
from attnbench.report.runs import ABSENT, Run, sort_into_rows
from attnbench.report.statistics import Summary

_COUNT = "sentences"  # beside a bin's scores: how many it is made of
_SHOWN = 4  # reasons for missing numbers that are spelt out


@dataclass(frozen=True)
class Point:
    """One setting of everything but the seed."""

    at: float  # along the axis
    summary: Summary | None  # None: no run has a number here, and the line is broken
    missing: str  # why some runs do not count, or nothing


@dataclass(frozen=True)
class Line:
    """Points of one group, from left to right."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Figure:
    """What is drawn, before any format."""

    layout: FigureLayout
    x_label: str
    y_label: str
    ticks: tuple[tuple[float, str], ...]  # places along the axis, and what stands there
    numeric: bool  # places are the numbers themselves
    legend: str  # what the lines' labels are values of, or nothing
    lines: tuple[Line, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know; where there is nothing to draw, why."""
        counts = {point.summary.n for line in self.lines for point in line.points if point.summary is not None}
        missing = tuple(_missing(self.lines, dict(self.ticks)))
        if not counts:
            return (f"not drawn: no finished run has {self.layout.y}", *missing)
        if counts == {1}:
            return ("One seed each, which tells nothing of spread.", *missing)
        spread = "band" if self.layout.kind is FigureKind.bins else "bar"
        seeds = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
        return (f"Mean over {seeds} seeds; {spread}: ± sample standard deviation.", *missing)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return all(point.summary is None for line in self.lines for point in line.points)


def build_figure(runs: Sequence[Run], layout: FigureLayout, where: str) -> Figure:
    """What `layout` says of `runs`; `where` names its file in errors. Means and spreads are those of the table's cells.

    Raises:
        RecordError: a logarithmic axis for what is no positive number.
    """
    keys, groups = sort_into_rows(runs, layout.keys, [])
    naming = [key for key in keys if key.key != layout.x]
    by_line: dict[tuple[Any, ...], list[list[Run]]] = {}
    for group in groups:
        by_line.setdefault(tuple(group[0].config.get(key.key, ABSENT) for key in naming), []).append(group)
    build = _over_bins if layout.x is None else _over_values
    ticks, numeric, points = build(list(by_line.values()), layout)
    lines = tuple(Line(_label(naming, values), found) for values, found in zip(by_line, points, strict=True))
    if layout.log and not (numeric and all(at > 0 for at, _ in ticks)):
        shown = ", ".join(text for _, text in ticks)
        raise RecordError(f"{where}: figures: {layout.name}: log: expected {layout.x} to be above 0, found {shown}")
    axis = layout.x or layout.y.partition(".*")[0]
    x_label = layout.x_label or axis.rpartition(".")[2].replace("_", " ")
    counted = layout.x is None and any("\n" in text for _, text in ticks)
    return Figure(
        layout,
        x_label=f"{x_label} (in brackets: {_COUNT})" if counted else x_label,
        y_label=Column(layout.y, layout.y_label).heading,
        ticks=ticks,
        numeric=numeric,
        legend=(naming[0].label or naming[0].key) if len(naming) == 1 else "",
        lines=lines,
    )


# Ticks, whether their places are numbers, and each line's points.
_Built = tuple[tuple[tuple[float, str], ...], bool, list[tuple[Point, ...]]]


def _over_bins(lines: Sequence[Sequence[Sequence[Run]]], layout: FigureLayout) -> _Built:
    """A place for each bin that some run has, in order of its numbers; all runs of a line are one group."""
    before, _, _ = layout.y.partition(".*")
    holders = [
        found
        for (group,) in lines
        for run in group
        if run.record is not None and run.finished and isinstance(found := lookup(run.record, before), Mapping)
    ]
    names = list(dict.fromkeys(name for found in holders for name in found))
    stems = list(dict.fromkeys(map(_stem, names)))
    bins = sorted(names, key=lambda name: (stems.index(_stem(name)), _length(name)))
    ticks = []
    for at, name in enumerate(bins):
        counts = [found[name].get(_COUNT) for found in holders if isinstance(found.get(name), Mapping)]
        counted = _range([count for count in counts if is_number(count)])
        ticks.append((float(at), f"{name}\n({counted})" if counted else name))
    # Without a bin, a point at the pattern itself, which no record has, says why there is none.
    columns = [Column(layout.y.replace("*", name)) for name in bins] or [Column(layout.y)]
    points = [tuple(_point(at, group, column) for at, column in enumerate(columns)) for (group,) in lines]
    return tuple(ticks), False, points


def _over_values(lines: Sequence[Sequence[Sequence[Run]]], layout: FigureLayout) -> _Built:
    """A place for each value of the config key: where it is if all are numbers, else one beside the other."""
    key = RowKey(layout.x or "")
    _, groups = sort_into_rows([run for line in lines for group in line for run in group], [key], [])
    values = dict.fromkeys(group[0].config.get(key.key, ABSENT) for group in groups)
    numeric = all(is_number(value) for value in values)
    places = {value: float(value) if numeric else float(at) for at, value in enumerate(values)}
    points = [
        tuple(_point(places[group[0].config.get(key.key, ABSENT)], group, Column(layout.y)) for group in line)
        for line in lines
    ]
    return tuple((at, key.text(value)) for value, at in places.items()), numeric, points


def _point(at: float, runs: Sequence[Run], column: Column) -> Point:
    cell = build_cell(runs, column)
    return Point(float(at), cell.summary, cell.missing)


def _label(keys: Sequence[RowKey], values: Sequence[Any]) -> str:
    """What a line is called; a value that could be of several keys is told with its key."""
    parts = []
    for key, value in zip(keys, values, strict=True):
        if value != ABSENT:
            alone = len(keys) == 1 or key.rank(value) < len(key.values)
            parts.append(key.text(value) if alone else f"{key.label or key.key} {key.text(value)}")
    return ", ".join(parts) or (ABSENT if keys else "")


def _stem(name: str) -> str:
    """What `encoder 1` and `encoder 12` have in common."""
    return re.sub(r"\d+", "", name) if name[:1].isalpha() else ""


def _length(name: str) -> tuple[list[int], str]:
    """Orders `6-10` before `11-15` and both before `31+`."""
    return [int(digits) for digits in re.findall(r"\d+", name)], name


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _missing(lines: Sequence[Line], ticks: Mapping[float, str]) -> Iterator[str]:
    """What is not there, a sentence a line or a point, and how many more there are."""
    found = []
    for line in lines:
        reasons = {point.missing for point in line.points}
        if reasons == {""}:
            continue
        if len(reasons) == 1:
            found.append(f"{line.label or 'runs'}: {reasons.pop()}.")
            continue
        for point in line.points:
            if point.missing:
                at = ticks[point.at].split("\n")[0]
                found.append(f"{line.label or 'runs'} at {at}: {point.missing}.")
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield f"And {len(found) - _SHOWN} more points or lines that lack runs."
