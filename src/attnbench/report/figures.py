"""What is to be drawn, before any drawing: points of lines, and what a reader must know of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from attnbench.record import RecordError
from attnbench.report.figure_layout import FigureKind, FigureLayout
from attnbench.report.keys import RowKey
from attnbench.report.runs import ABSENT, Run, sort_into_rows
from attnbench.report.statistics import Summary

_SHOWN = 4  # reasons for missing numbers that are spelt out
_SPREAD = {FigureKind.bins: "band", FigureKind.curves: "band", FigureKind.heat: "±"}  # how it is drawn; else a bar


class Figure(Protocol):
    """A figure of any kind."""

    @property
    def layout(self) -> FigureLayout:
        """What table.yaml says of it."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know; where there is nothing to draw, why."""
        ...

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        ...


@dataclass(frozen=True)
class Point:
    """One setting of everything but the seed."""

    at: float  # along the axis
    summary: Summary | None  # None: no run has a number here, and the line is broken
    missing: str  # why some runs do not count, or nothing
    name: str = ""  # what stands beside it
    spread: float | None = None  # sample standard deviation along the axis
    front: bool = False  # no other point is better in one number and as good in the other


@dataclass(frozen=True)
class Line:
    """Points of one group, from left to right."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Plot:
    """A Figure of lines, of points, or of the cells of a heat map, whose rows are lines."""

    layout: FigureLayout
    x_label: str
    y_label: str
    ticks: tuple[tuple[float, str], ...]  # places along the axis, and what stands there; none: numbers as they come
    numeric: bool  # places are the numbers themselves
    legend: str  # what the lines' labels are values of, or nothing
    lines: tuple[Line, ...]
    remarks: tuple[str, ...] = ()  # what else a reader must know

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know; where there is nothing to draw, why."""
        counts = {point.summary.n for line in self.lines for point in line.points if point.summary is not None}
        missing = tuple(_missing(self.lines, dict(self.ticks), self.legend))
        if not counts:
            return (f"not drawn: no finished run has {self.layout.y}", *missing, *self.remarks)
        if counts == {1}:
            return ("One seed each, which tells nothing of spread.", *missing, *self.remarks)
        spread = _SPREAD.get(self.layout.kind, "bar")
        seeds = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
        said = f"Mean over {seeds} seeds; {spread}: ± sample standard deviation."
        return (said.replace("±: ±", "±:"), *missing, *self.remarks)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return all(point.summary is None for line in self.lines for point in line.points)


@dataclass(frozen=True)
class Group:
    """The runs of a line: a label, and for each setting within the line its runs, which differ in their seed only."""

    label: str
    settings: tuple[tuple[Run, ...], ...]
    names: tuple[str, ...]  # of each setting, by the keys that are no line's


def sort_into_lines(
    runs: Sequence[Run], keys: Sequence[RowKey], line: Sequence[RowKey] | None, x: str | None
) -> tuple[list[Group], str]:
    """Runs parted by `keys` and every other key that differs, and gathered into lines; and what a legend is headed by.

    A line is a setting of `line`, or where that is None of all those keys but `x`.
    """
    found, settings = sort_into_rows(runs, keys, [])
    naming = [key for key in found if key.key != x] if line is None else list(line)
    others = [key for key in found if key not in naming]
    # Beside a point there is little room.
    short = [replace(key, label=key.label or key.key.rpartition(".")[2]) for key in others]
    lines: dict[tuple[Any, ...], list[tuple[Run, ...]]] = {}
    for setting in settings:
        lines.setdefault(_values(setting, naming), []).append(tuple(setting))
    groups = [
        Group(_label(naming, values), tuple(members), tuple(_name(short, _values(m, others)) for m in members))
        for values, members in lines.items()
    ]
    return groups, (naming[0].label or naming[0].key) if len(naming) == 1 else ""


def check_log(layout: FigureLayout, places: Mapping[float, str], numeric: bool, where: str) -> None:
    """Refuse a logarithmic axis for what is no positive number.

    Raises:
        RecordError: names the file `where`, the figure and what was found.
    """
    if layout.log and not (numeric and all(at > 0 for at in places)):
        shown = ", ".join(places.values())
        raise RecordError(f"{where}: figures: {layout.name}: log: expected {layout.x} to be above 0, found {shown}")


def axis_label(key: str) -> str:
    """What an axis is called by default: the last part of its key."""
    return key.rpartition(".")[2].replace("_", " ")


def _values(runs: Sequence[Run], keys: Sequence[RowKey]) -> tuple[Any, ...]:
    return tuple(runs[0].config.get(key.key, ABSENT) for key in keys)


def _label(keys: Sequence[RowKey], values: Sequence[Any]) -> str:
    """What a line is called; a value that could be of several keys is told with its key."""
    parts = []
    for key, value in zip(keys, values, strict=True):
        if value != ABSENT:
            alone = len(keys) == 1 or key.rank(value) < len(key.values)
            parts.append(key.text(value) if alone else f"{key.label or key.key} {key.text(value)}")
    return ", ".join(parts) or (ABSENT if keys else "")


def told(label: str, legend: str) -> str:
    """What a line is called in a sentence, where a number alone would say nothing."""
    return f"{legend} {label}" if legend and re.fullmatch(r"[\d.e+-]+", label) else label or "runs"


def _name(keys: Sequence[RowKey], values: Sequence[Any]) -> str:
    """What stands beside a point; nothing where none of the keys is its."""
    return "" if set(values) <= {ABSENT} else told(_label(keys, values), keys[0].label or "" if len(keys) == 1 else "")


def _missing(lines: Sequence[Line], ticks: Mapping[float, str], legend: str) -> Iterator[str]:
    """What is not there, a sentence a line or a point, and how many more there are."""
    found = []
    for line in lines:
        called = told(line.label, legend)
        reasons = {point.missing for point in line.points}
        if reasons == {""}:
            continue
        if len(reasons) == 1:
            found.append(f"{called}: {reasons.pop()}.")
            continue
        for point in line.points:
            if point.missing:
                at = point.name or ticks.get(point.at, f"{point.at:g}").split("\n")[0]
                found.append(f"{called} at {at}: {point.missing}.")
    yield from found[:_SHOWN]
    if len(found) > _SHOWN:
        yield f"And {len(found) - _SHOWN} more points or lines that lack runs."
