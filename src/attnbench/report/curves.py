"""Learning curves: what runs kept while they trained, averaged over seeds at the same updates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from attnbench.history import HISTORY, count_damaged_lines, read
from attnbench.report.figure_layout import FigureLayout
from attnbench.report.figures import Group, Line, Plot, Point, check_log, sort_into_lines, told
from attnbench.report.layout import Column
from attnbench.report.runs import Run
from attnbench.report.statistics import summarise

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
            lost = f"{damaged} line{'s' * (damaged > 1)} of {HISTORY} cannot be read"
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
    entries = read(folder / run.run_id)
    damaged = count_damaged_lines(folder / run.run_id, len(entries))
    if not entries:
        return "no history", {}, damaged
    curve = curve_of(entries, layout.x or _UPDATE, layout.y, layout.smooth)
    if not curve:
        held = any(layout.y in entry for entry in entries)
        return f"no {layout.x} in its history" if held else f"no {layout.y} in its history", {}, damaged
    return "", curve, damaged
