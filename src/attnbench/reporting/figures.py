"""Compute what figures show, as plain data: from records (by length bins, by config keys) and from histories."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from attnbench.records.history import HISTORY_FILE, count_damaged_lines, read_history
from attnbench.records.record import RecordError
from attnbench.reporting.bins import COUNT, count_sentences, find_bins, merge_small_bins, range_text
from attnbench.reporting.cells import build_cell, is_number
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.keys import Best, RowKey
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import ABSENT, Run, sort_into_rows
from attnbench.reporting.statistics import Summary, summarise

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


_END = {Best.max: "higher", Best.min: "lower"}
_TOLD = 6  # settings on the front that are named in words
_NAMED = 14  # settings up to which a legend names each; beyond, names stand beside the points that have room


def by_bins(runs: Sequence[Run], layout: FigureLayout, where: str, folder: Path | None) -> Plot:
    """Build a place for each bin that some run has, in order of its numbers; all runs of a line are one group.

    Neighbouring bins are merged until each has `layout.min_count` sentences, in all runs alike.
    """
    before, _, _ = layout.y.partition(".*")
    runs, remarks = merge_small_bins(runs, before, layout.min_count)
    bins, holders = find_bins(runs, before)
    groups, legend = sort_into_lines(runs, layout.keys, None, None)
    ticks = []
    for at, name in enumerate(bins):
        counted = range_text(count_sentences(name, holders))
        ticks.append((float(at), f"{name}\n({counted})" if counted else name))
    # Without a bin, a point at the pattern itself, which no record has, says why there is none.
    columns = [Column(layout.y.replace("*", name)) for name in bins] or [Column(layout.y)]
    lines = tuple(
        Line(group.label, tuple(_point(at, group.settings[0], column) for at, column in enumerate(columns)))
        for group in groups
    )
    x_label = layout.x_label or axis_label(before)
    return Plot(
        layout,
        x_label=f"{x_label} (in brackets: {COUNT})" if any("\n" in text for _, text in ticks) else x_label,
        y_label=Column(layout.y, layout.y_label).heading,
        ticks=tuple(ticks),
        numeric=False,
        legend=legend,
        lines=lines,
        remarks=remarks,
    )


def by_values(runs: Sequence[Run], layout: FigureLayout, where: str, folder: Path | None) -> Plot:
    """A place for each value of a config key: where it is if all are numbers, else one beside the other.

    A heat map's columns stand beside each other, too.

    Raises:
        RecordError: a logarithmic axis for what is no positive number.
    """
    groups, legend = sort_into_lines(runs, layout.keys, None, layout.x)
    key = RowKey(layout.x or "")
    _, by_value = sort_into_rows(runs, [key], [])
    values = dict.fromkeys(group[0].config.get(key.key, ABSENT) for group in by_value)
    numeric = layout.kind is not FigureKind.heat and all(is_number(value) for value in values)
    places = {value: float(value) if numeric else float(at) for at, value in enumerate(values)}
    ticks = tuple((at, key.text(value)) for value, at in places.items())
    check_log(layout, dict(ticks), numeric, where)
    column = Column(layout.y, layout.y_label)
    lines = tuple(
        Line(group.label, tuple(_point(places[s[0].config.get(key.key, ABSENT)], s, column) for s in group.settings))
        for group in groups
    )
    return Plot(layout, layout.x_label or axis_label(key.key), column.heading, ticks, numeric, legend, lines)


def by_cost(runs: Sequence[Run], layout: FigureLayout, where: str, folder: Path | None) -> Plot:
    """A point for each setting, at two numbers of its record, and which of them no other beats in both.

    Raises:
        RecordError: a logarithmic axis for what is no positive number.
    """
    groups, legend = sort_into_lines(runs, layout.keys, layout.group or None, None)
    if not layout.group and len(groups) > _NAMED:
        groups, legend = sort_into_lines(runs, layout.keys, [], None)
    column, cost = Column(layout.y, layout.y_label), Column(layout.x or "", layout.x_label)
    lines = [Line(group.label, tuple(_costly(group, cost, column))) for group in groups]
    drawn = [point for line in lines for point in line.points if point.summary is not None]
    check_log(layout, {point.at: f"{point.at:g}" for point in drawn}, True, where)
    means = [(point.at, point.summary.mean) for point in drawn if point.summary is not None]
    front = set(pareto_front(means, layout.best_x, layout.best))
    marked = tuple(Line(line.label, tuple(_marked(point, front) for point in line.points)) for line in lines)
    ends = [_END[best] for best in (layout.best, layout.best_x)]
    remark = f"Ringed: the Pareto front of {ends[0]} {column.heading} and {ends[1]} {cost.heading}: {_told(marked)}."
    return Plot(layout, cost.heading, column.heading, (), True, legend, marked, (remark,) if drawn else ())


def pareto_front(points: Sequence[tuple[float, float]], best_x: Best, best_y: Best) -> list[tuple[float, float]]:
    """Those (x, y) to which no other is better in one and at least as good in the other, from the best x on."""
    sign_x, sign_y = (1 if best is Best.min else -1 for best in (best_x, best_y))
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (sign_x * point[0], sign_y * point[1])):
        if not front or sign_y * y < sign_y * front[-1][1]:
            front.append((x, y))
    return front


def _told(lines: Sequence[Line]) -> str:
    """The settings on the front, from left to right: a name beside a point may find no room."""
    front = [(p.at, ", ".join(filter(None, (line.label, p.name)))) for line in lines for p in line.points if p.front]
    names = [name or "all runs" for _, name in sorted(front)]
    return "; ".join(names[:_TOLD]) + (f"; and {len(names) - _TOLD} more" if len(names) > _TOLD else "")


def _marked(point: Point, front: set[tuple[float, float]]) -> Point:
    if point.summary is None or (point.at, point.summary.mean) not in front:
        return point
    return Point(point.at, point.summary, point.missing, point.name, point.spread, front=True)


def _costly(group: Group, cost: Column, column: Column) -> list[Point]:
    """A point for each setting, of the runs that have both numbers; what lacks one has no place."""
    points = []
    for name, runs in zip(group.names, group.settings, strict=True):
        cells = {run.run_id: (build_cell([run], cost), build_cell([run], column)) for run in runs}
        lacking = {key: [c.value for c in pair if c.summary is None] for key, pair in cells.items()}
        whole = [run for run in runs if not lacking[run.run_id]]
        at, value = build_cell(whole, cost).summary, build_cell(whole, column)
        reasons = [found[0] for found in lacking.values() if found]
        missing = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
        if at is None:
            points.append(Point(float("nan"), None, missing, name))
        else:
            points.append(Point(at.mean, value.summary, missing, name, at.std))
    return points


def _point(at: float, runs: Sequence[Run], column: Column) -> Point:
    cell = build_cell(runs, column)
    return Point(float(at), cell.summary, cell.missing)


_AXES = {
    "update": "updates", "epoch": "epochs", "seconds": "seconds of training and validation",
    "units": "target tokens or pictures trained on", "flops": "FLOPs of training",
}  # fmt: skip
_UPDATE = "update"

Curve = dict[float, tuple[float, float]]  # by update: place along the axis, and number


def by_progress(runs: Sequence[Run], layout: FigureLayout, where: str, folder: Path | None) -> Plot:
    """A line for each setting: at each update the mean over its seeds, where they were on average along the axis.

    Raises:
        RecordError: a logarithmic axis for what is no positive number.
    """
    groups, legend = sort_into_lines(runs, layout.keys, None, None)
    lines, remarks = [], []
    for group in groups:
        line, short, damaged = _average(group, layout, folder)
        lines.append(line)
        if damaged:
            lost = f"{damaged} line{'s' * (damaged > 1)} of {HISTORY_FILE} cannot be read"
            remarks.append(f"{told(group.label, legend)}: {lost}, and {'are' if damaged > 1 else 'is'} left out.")
        if short:
            remarks.append(f"{told(group.label, legend)}: from update {short[0]:g} on, not every seed has a number.")
    if layout.smooth > 1:
        remarks.append(f"Smoothed: each number is the mean of up to {layout.smooth}, itself and those before it.")
    if layout.x != _UPDATE and any(p.summary is not None and p.summary.n > 1 for line in lines for p in line.points):
        remarks.append(f"Seeds are averaged at the same updates, in {layout.x} as well.")
    drawn = {point.at: f"{point.at:g}" for line in lines for point in line.points if point.summary is not None}
    check_log(layout, drawn, True, where)
    label = layout.x_label or _AXES[layout.x or _UPDATE]
    return Plot(layout, label, Column(layout.y, layout.y_label).heading, (), True, legend, tuple(lines), tuple(remarks))


def curve_of(entries: Sequence[dict[str, float]], x: str, y: str, smooth: int) -> Curve:
    """What entries say of `y`, by update; the last word counts where an update has several.

    Numbers that are not finite stay what they are, and no others are smoothed with them.
    """
    found = {entry[_UPDATE]: (entry[x], entry[y]) for entry in entries if {_UPDATE, x, y} <= entry.keys()}
    curve: Curve = {}
    window: list[float] = []
    for update, (at, value) in sorted(found.items()):
        if not math.isfinite(value):
            curve[update] = (at, value)
            continue
        window = [*window, value][-smooth:]
        curve[update] = (at, sum(window) / len(window))
    return curve


def _average(group: Group, layout: FigureLayout, folder: Path | None) -> tuple[Line, list[float], int]:
    """Average a line's runs.

    Returns:
        The line, the updates at which some that have a curve have no number, and how many lines cannot be read.
    """
    curves: list[Curve] = []
    damaged = 0
    reasons: Counter[str] = Counter()
    for run in group.settings[0]:
        reason, curve, lost = _curve(run, layout, folder)
        damaged += lost
        if reason:
            reasons[reason] += 1
        else:
            curves.append(curve)
    missing = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    points, short = [], []
    for update in sorted({update for curve in curves for update in curve}):
        here = [curve[update] for curve in curves if update in curve and math.isfinite(curve[update][1])]
        if len(here) < len(curves):
            short.append(update)
        at = [place for place, _ in here] or [curve[update][0] for curve in curves if update in curve]
        summary = summarise([value for _, value in here]) if here else None
        points.append(Point(sum(at) / len(at), summary, missing))
    return Line(group.label, tuple(points) or (Point(math.nan, None, missing),)), short, damaged


def _curve(run: Run, layout: FigureLayout, folder: Path | None) -> tuple[str, Curve, int]:
    """Read why a run has no curve, or nothing and the curve; and how many lines of its history cannot be read."""
    if not run.finished or folder is None:
        return ("no history" if run.finished else run.state), {}, 0
    entries = read_history(folder / run.run_id)
    damaged = count_damaged_lines(folder / run.run_id, len(entries))
    if not entries:
        return "no history", {}, damaged
    curve = curve_of(entries, layout.x or _UPDATE, layout.y, layout.smooth)
    if not curve:
        held = any(layout.y in entry for entry in entries)
        return f"no {layout.x} in its history" if held else f"no {layout.y} in its history", {}, damaged
    return "", curve, damaged
