"""Compute the data of figures from records (by length bins, by config keys, by cost) and from histories."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from attnbench.metrics.statistics import Summary, summarize
from attnbench.records.history import HISTORY_FILE, count_damaged_lines, read_history
from attnbench.records.record import RecordError
from attnbench.reporting.bins import COUNT_KEY, count_sentences, find_bins, format_range, merge_small_bins
from attnbench.reporting.cells import build_cell, is_number
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.keys import Best, RowKey
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import ABSENT, Run, group_into_rows

_MAX_REASONS = 4  # listed reasons for missing numbers
_SPREAD_SHAPES = {
    FigureKind.bins: "band",
    FigureKind.curves: "band",
    FigureKind.heatmap: "±",
}  # how the spread is drawn; error bars for other kinds


class Figure(Protocol):
    """Interface of all figures."""

    @property
    def layout(self) -> FigureLayout:
        """Entry of `figures` in table.yaml."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes below the figure; if there is nothing to draw, the reason."""
        ...

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to draw."""
        ...


@dataclass(frozen=True)
class Point:
    """Point of a line: one setting of all config keys except the seed."""

    x: float  # position on the x axis
    summary: Summary | None  # None: no run has a number here; the line is interrupted
    missing: str  # why some runs have no number; empty if all have one
    name: str = ""  # text beside the point
    spread: float | None = None  # sample standard deviation of x
    is_on_front: bool = False  # on the Pareto front


@dataclass(frozen=True)
class Line:
    """Line of a figure: the points of one group, from left to right."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Plot:
    """Figure made of lines, of points, or of heatmap cells (each row is a line)."""

    layout: FigureLayout
    x_label: str
    y_label: str
    ticks: tuple[tuple[float, str], ...]  # x positions and their labels; empty: automatic ticks
    numeric: bool  # True if x positions are the values themselves
    legend: str  # title of the legend: the config key of the labels; may be empty
    lines: tuple[Line, ...]
    remarks: tuple[str, ...] = ()  # further notes

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes below the figure; if there is nothing to draw, the reason."""
        counts = {point.summary.n for line in self.lines for point in line.points if point.summary is not None}
        missing = tuple(_describe_missing(self.lines, dict(self.ticks), self.legend))
        if not counts:
            return (f"not drawn: no finished run has {self.layout.y}", *missing, *self.remarks)
        if counts == {1}:
            return ("One seed for each setting: the spread over seeds is unknown.", *missing, *self.remarks)
        spread = _SPREAD_SHAPES.get(self.layout.kind, "bar")
        seeds = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
        text = f"Mean over {seeds} seeds; {spread}: ± sample standard deviation."
        return (text.replace("±: ±", "±:"), *missing, *self.remarks)

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to draw."""
        return all(point.summary is None for line in self.lines for point in line.points)


@dataclass(frozen=True)
class LineGroup:
    """Runs of one line: for each setting within the line, runs that differ only in their seed."""

    label: str
    settings: tuple[tuple[Run, ...], ...]
    names: tuple[str, ...]  # for each setting its label, from the keys that do not define the line


def group_into_lines(
    runs: Sequence[Run], keys: Sequence[RowKey], line_keys: Sequence[RowKey] | None, x: str | None
) -> tuple[list[LineGroup], str]:
    """Group runs by config keys that differ, and the groups into lines.

    Args:
        runs: runs of the figure.
        keys: config keys of the layout; other keys that differ are added.
        line_keys: keys that define a line; None: all keys except `x`.
        x: config key of the x axis, if any.

    Returns:
        The lines, and the title of the legend.
    """
    found, settings = group_into_rows(runs, keys, [])
    naming = [key for key in found if key.key != x] if line_keys is None else list(line_keys)
    others = [key for key in found if key not in naming]
    # Short names, because there is little space beside a point.
    short = [replace(key, label=key.label or key.key.rpartition(".")[2]) for key in others]
    lines: dict[tuple[Any, ...], list[tuple[Run, ...]]] = {}
    for setting in settings:
        lines.setdefault(_get_values(setting, naming), []).append(tuple(setting))
    groups = [
        LineGroup(
            _format_label(naming, values),
            tuple(members),
            tuple(_format_point_name(short, _get_values(m, others)) for m in members),
        )
        for values, members in lines.items()
    ]
    return groups, (naming[0].label or naming[0].key) if len(naming) == 1 else ""


def check_log_axis(layout: FigureLayout, places: Mapping[float, str], numeric: bool, layout_path: str) -> None:
    """Check that an axis may be logarithmic.

    Raises:
        RecordError: a position is not a positive number; the message names the file, the figure and the values.
    """
    if layout.log and not (numeric and all(at > 0 for at in places)):
        shown = ", ".join(places.values())
        raise RecordError(
            f"{layout_path}: figures: {layout.name}: log: expected {layout.x} to be above 0, found {shown}"
        )


def format_axis_label(key: str) -> str:
    """Return the default label of an axis: the last part of its key."""
    return key.rpartition(".")[2].replace("_", " ")


def _get_values(runs: Sequence[Run], keys: Sequence[RowKey]) -> tuple[Any, ...]:
    return tuple(runs[0].config.get(key.key, ABSENT) for key in keys)


def _format_label(keys: Sequence[RowKey], values: Sequence[Any]) -> str:
    """Format the label of a line; a value that could belong to several keys is written with its key."""
    parts = []
    for key, value in zip(keys, values, strict=True):
        if value != ABSENT:
            alone = len(keys) == 1 or key.get_sort_position(value) < len(key.values)
            parts.append(key.format_value(value) if alone else f"{key.label or key.key} {key.format_value(value)}")
    return ", ".join(parts) or (ABSENT if keys else "")


def describe_line(label: str, legend: str) -> str:
    """Format the name of a line for a sentence: a bare number gets the name of its key."""
    return f"{legend} {label}" if legend and re.fullmatch(r"[\d.e+-]+", label) else label or "runs"


def _format_point_name(keys: Sequence[RowKey], values: Sequence[Any]) -> str:
    """Format the text beside a point; empty if no key applies to the point."""
    return (
        ""
        if set(values) <= {ABSENT}
        else describe_line(_format_label(keys, values), keys[0].label or "" if len(keys) == 1 else "")
    )


def _describe_missing(lines: Sequence[Line], ticks: Mapping[float, str], legend: str) -> Iterator[str]:
    """Yield sentences about missing numbers, and how many more there are."""
    found = []
    for line in lines:
        called = describe_line(line.label, legend)
        reasons = {point.missing for point in line.points}
        if reasons == {""}:
            continue
        if len(reasons) == 1:
            found.append(f"{called}: {reasons.pop()}.")
            continue
        for point in line.points:
            if point.missing:
                at = point.name or ticks.get(point.x, f"{point.x:g}").split("\n")[0]
                found.append(f"{called} at {at}: {point.missing}.")
    yield from found[:_MAX_REASONS]
    if len(found) > _MAX_REASONS:
        yield f"And {len(found) - _MAX_REASONS} more points or lines that lack runs."


_BETTER = {Best.max: "higher", Best.min: "lower"}
_MAX_LISTED_ON_FRONT = 6  # settings on the front that the note lists
_MAX_LEGEND_ENTRIES = 14  # with more settings, names stand beside points instead of in the legend


def build_bin_plot(runs: Sequence[Run], layout: FigureLayout, layout_path: str, folder: Path | None) -> Plot:
    """Compute a figure over bins: one x position for each bin, one line for each setting.

    Neighbouring bins are merged until each has `layout.min_count` sentences, in the same way for all runs.

    Args:
        runs: runs of the figure.
        layout: entry of `figures` in table.yaml.
        layout_path: path of table.yaml, for error messages.
        folder: not used; all build functions have the same parameters.
    """
    before, _, _ = layout.y.partition(".*")
    runs, remarks = merge_small_bins(runs, before, layout.min_count)
    bins, holders = find_bins(runs, before)
    groups, legend = group_into_lines(runs, layout.setting_keys, None, None)
    ticks = []
    for at, name in enumerate(bins):
        counted = format_range(count_sentences(name, holders))
        ticks.append((float(at), f"{name}\n({counted})" if counted else name))
    # Without bins, a point at the pattern itself, which no record has, gives the reason.
    columns = [Column(layout.y.replace("*", name)) for name in bins] or [Column(layout.y)]
    lines = tuple(
        Line(group.label, tuple(_build_point(at, group.settings[0], column) for at, column in enumerate(columns)))
        for group in groups
    )
    x_label = layout.x_label or format_axis_label(before)
    return Plot(
        layout,
        x_label=f"{x_label} (in brackets: {COUNT_KEY})" if any("\n" in text for _, text in ticks) else x_label,
        y_label=Column(layout.y, layout.y_label).heading,
        ticks=tuple(ticks),
        numeric=False,
        legend=legend,
        lines=lines,
        remarks=remarks,
    )


def build_value_plot(runs: Sequence[Run], layout: FigureLayout, layout_path: str, folder: Path | None) -> Plot:
    """Compute a figure over the values of a config key.

    If all values are numbers, they are the x positions; else, and for a heatmap, values stand at equal distances.

    Args:
        runs: runs of the figure.
        layout: entry of `figures` in table.yaml.
        layout_path: path of table.yaml, for error messages.
        folder: not used; all build functions have the same parameters.

    Raises:
        RecordError: a logarithmic axis has values that are not positive numbers.
    """
    groups, legend = group_into_lines(runs, layout.setting_keys, None, layout.x)
    key = RowKey(layout.x or "")
    _, by_value = group_into_rows(runs, [key], [])
    values = dict.fromkeys(group[0].config.get(key.key, ABSENT) for group in by_value)
    numeric = layout.kind is not FigureKind.heatmap and all(is_number(value) for value in values)
    places = {value: float(value) if numeric else float(at) for at, value in enumerate(values)}
    ticks = tuple((at, key.format_value(value)) for value, at in places.items())
    check_log_axis(layout, dict(ticks), numeric, layout_path)
    column = Column(layout.y, layout.y_label)
    lines = tuple(
        Line(
            group.label,
            tuple(_build_point(places[s[0].config.get(key.key, ABSENT)], s, column) for s in group.settings),
        )
        for group in groups
    )
    return Plot(layout, layout.x_label or format_axis_label(key.key), column.heading, ticks, numeric, legend, lines)


def build_pareto_plot(runs: Sequence[Run], layout: FigureLayout, layout_path: str, folder: Path | None) -> Plot:
    """Compute a figure of two numbers of the record: one point for each setting, and the Pareto front.

    Args:
        runs: runs of the figure.
        layout: entry of `figures` in table.yaml.
        layout_path: path of table.yaml, for error messages.
        folder: not used; all build functions have the same parameters.

    Raises:
        RecordError: a logarithmic axis has values that are not positive numbers.
    """
    groups, legend = group_into_lines(runs, layout.setting_keys, layout.group or None, None)
    if not layout.group and len(groups) > _MAX_LEGEND_ENTRIES:
        groups, legend = group_into_lines(runs, layout.setting_keys, [], None)
    column, cost = Column(layout.y, layout.y_label), Column(layout.x or "", layout.x_label)
    lines = [Line(group.label, tuple(_build_cost_points(group, cost, column))) for group in groups]
    drawn = [point for line in lines for point in line.points if point.summary is not None]
    check_log_axis(layout, {point.x: f"{point.x:g}" for point in drawn}, True, layout_path)
    means = [(point.x, point.summary.mean) for point in drawn if point.summary is not None]
    front = set(find_pareto_front(means, layout.best_x, layout.best))
    marked = tuple(Line(line.label, tuple(_mark_front(point, front) for point in line.points)) for line in lines)
    ends = [_BETTER[best] for best in (layout.best, layout.best_x)]
    front_text = f"{ends[0]} {column.heading} and {ends[1]} {cost.heading}"
    remark = f"Circled: the Pareto front of {front_text}: {_describe_front(marked)}."
    return Plot(layout, cost.heading, column.heading, (), True, legend, marked, (remark,) if drawn else ())


def find_pareto_front(points: Sequence[tuple[float, float]], best_x: Best, best_y: Best) -> list[tuple[float, float]]:
    """Return the points that no other point dominates, sorted from the best x on.

    Args:
        points: (x, y) of each setting.
        best_x: direction in which x is better.
        best_y: direction in which y is better.
    """
    sign_x, sign_y = (1 if best is Best.min else -1 for best in (best_x, best_y))
    front: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda point: (sign_x * point[0], sign_y * point[1])):
        if not front or sign_y * y < sign_y * front[-1][1]:
            front.append((x, y))
    return front


def _describe_front(lines: Sequence[Line]) -> str:
    """List the settings on the front, from left to right, because a name beside a point may not fit."""
    front = [
        (p.x, ", ".join(filter(None, (line.label, p.name)))) for line in lines for p in line.points if p.is_on_front
    ]
    names = [name or "all runs" for _, name in sorted(front)]
    return "; ".join(names[:_MAX_LISTED_ON_FRONT]) + (
        f"; and {len(names) - _MAX_LISTED_ON_FRONT} more" if len(names) > _MAX_LISTED_ON_FRONT else ""
    )


def _mark_front(point: Point, front: set[tuple[float, float]]) -> Point:
    if point.summary is None or (point.x, point.summary.mean) not in front:
        return point
    return Point(point.x, point.summary, point.missing, point.name, point.spread, is_on_front=True)


def _build_cost_points(group: LineGroup, cost: Column, column: Column) -> list[Point]:
    """Build a point for each setting, from the runs that have both numbers."""
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


def _build_point(x: float, runs: Sequence[Run], column: Column) -> Point:
    cell = build_cell(runs, column)
    return Point(float(x), cell.summary, cell.missing)


_AXES = {
    "update": "updates", "epoch": "epochs", "seconds": "seconds of training and validation",
    "units": "target tokens or pictures trained on", "flops": "FLOPs of training",
}  # fmt: skip
_UPDATE = "update"

Curve = dict[float, tuple[float, float]]  # by update: x position and value


def build_curve_plot(runs: Sequence[Run], layout: FigureLayout, layout_path: str, folder: Path | None) -> Plot:
    """Compute learning curves: one line for each setting, at each update the mean over seeds.

    The x position is the mean over seeds too.

    Args:
        runs: runs of the figure.
        layout: entry of `figures` in table.yaml.
        layout_path: path of table.yaml, for error messages.
        folder: folder with the runs' folders, which hold the histories.

    Raises:
        RecordError: a logarithmic axis has values that are not positive numbers.
    """
    groups, legend = group_into_lines(runs, layout.setting_keys, None, None)
    lines, remarks = [], []
    for group in groups:
        line, short, damaged = _average_curves(group, layout, folder)
        lines.append(line)
        if damaged:
            lost = f"{damaged} line{'s' * (damaged > 1)} of {HISTORY_FILE} cannot be read"
            remarks.append(
                f"{describe_line(group.label, legend)}: {lost}, and {'are' if damaged > 1 else 'is'} left out."
            )
        if short:
            remarks.append(
                f"{describe_line(group.label, legend)}: from update {short[0]:g} on, not every seed has a number."
            )
    if layout.smooth > 1:
        remarks.append(f"Smoothed: each number is the mean of up to {layout.smooth}, itself and those before it.")
    if layout.x != _UPDATE and any(p.summary is not None and p.summary.n > 1 for line in lines for p in line.points):
        remarks.append("Both axes show means over seeds at the same update.")
    drawn = {point.x: f"{point.x:g}" for line in lines for point in line.points if point.summary is not None}
    check_log_axis(layout, drawn, True, layout_path)
    label = layout.x_label or _AXES[layout.x or _UPDATE]
    return Plot(layout, label, Column(layout.y, layout.y_label).heading, (), True, legend, tuple(lines), tuple(remarks))


def extract_curve(entries: Sequence[dict[str, float]], x: str, y: str, smooth: int) -> Curve:
    """Extract the curve of `y` from the entries of a history; if an update has several entries, the last one counts.

    Values that are not finite stay as they are and are left out of the smoothing.

    Args:
        entries: entries of a history.
        x: key of the x position.
        y: key of the value.
        smooth: number of values in the running mean.

    Returns:
        By update, x position and value.
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


def _average_curves(group: LineGroup, layout: FigureLayout, folder: Path | None) -> tuple[Line, list[float], int]:
    """Average the curves of a line's runs.

    Returns:
        The line, the updates at which some curves have no number, and the number of history lines that cannot be
        read.
    """
    curves: list[Curve] = []
    damaged = 0
    reasons: Counter[str] = Counter()
    for run in group.settings[0]:
        reason, curve, lost = _read_curve(run, layout, folder)
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
        summary = summarize([value for _, value in here]) if here else None
        points.append(Point(sum(at) / len(at), summary, missing))
    return Line(group.label, tuple(points) or (Point(math.nan, None, missing),)), short, damaged


def _read_curve(run: Run, layout: FigureLayout, folder: Path | None) -> tuple[str, Curve, int]:
    """Read the curve of a run.

    Returns:
        The reason why there is no curve (empty if there is one), the curve, and the number of history lines that
        cannot be read.
    """
    if not run.is_finished or folder is None:
        return ("no history" if run.is_finished else run.state), {}, 0
    entries = read_history(folder / run.run_id)
    damaged = count_damaged_lines(folder / run.run_id, len(entries))
    if not entries:
        return "no history", {}, damaged
    curve = extract_curve(entries, layout.x or _UPDATE, layout.y, layout.smooth)
    if not curve:
        held = any(layout.y in entry for entry in entries)
        return f"no {layout.x} in its history" if held else f"no {layout.y} in its history", {}, damaged
    return "", curve, damaged
