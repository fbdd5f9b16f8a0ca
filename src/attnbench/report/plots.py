"""Figures of what stands in records: by bins, by a config key, as a heat map, and as one number against another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnbench.report.bins import COUNT, count_sentences, find_bins, merge_small_bins, range_text
from attnbench.report.cells import build_cell, is_number
from attnbench.report.figure_layout import FigureKind, FigureLayout
from attnbench.report.figures import Group, Line, Plot, Point, axis_label, check_log, sort_into_lines
from attnbench.report.keys import Best, RowKey
from attnbench.report.layout import Column
from attnbench.report.runs import ABSENT, Run, sort_into_rows

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
