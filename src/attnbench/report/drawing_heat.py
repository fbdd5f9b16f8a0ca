"""Draws a heat map of a two-way sweep: a colour and a number a cell, hatched where there is none, with the reason."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnbench.report.cells import number_text
from attnbench.report.drawing import give_room, note, set_ticks, short, wrapped
from attnbench.report.figures import Plot, Point
from attnbench.report.layout import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

_ABSENT = "no run"  # of a setting that nobody planned
_WIDE, _HIGH, _SMALL = 0.78, 0.44, 0.26  # inches: a cell with words in it; the side of one without
_WORDED = 12  # columns up to which words have room


def draw_heat(figure: Plot) -> Sheet:
    """A row a line of the figure, a column a value of its key."""
    import numpy as np
    from matplotlib.figure import Figure as Sheet

    rows, columns = len(figure.lines), len(figure.ticks)
    known = [{point.at: point for point in line.points} for line in figure.lines]
    cells = [[points.get(at, Point(at, None, _ABSENT)) for at, _ in figure.ticks] for points in known]
    means = np.array([[math.nan if point.summary is None else point.summary.mean for point in row] for row in cells])
    wide, high = (_WIDE, _HIGH) if columns <= _WORDED else (_SMALL, _SMALL)
    width = max(1.6, wide * columns)
    sheet = Sheet(figsize=(3 + width, 1 + high * rows), layout="constrained")
    axes = sheet.add_subplot()
    image = axes.imshow(np.ma.masked_invalid(means), cmap="viridis", aspect="auto", interpolation="nearest")
    share = np.asarray(image.norm(means))
    most = max((point.summary.n for row in cells for point in row if point.summary is not None), default=1)
    for down, row in enumerate(cells):
        for across, point in enumerate(row):
            if point.summary is None:
                _hatch(axes, across, down)
            if columns <= _WORDED:
                light = point.summary is None or share[down, across] > 0.6
                axes.text(
                    across, down, _words(point, figure, most), ha="center", va="center", fontsize=7, linespacing=0.95,
                    color="black" if light else "white",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1} if point.summary is None else None,
                )  # fmt: skip
    _dress(axes, figure, rows, letters=int(11 * width))
    bar = sheet.colorbar(image, ax=axes, pad=0.02, aspect=30, format=lambda value, _: short(value))
    bar.set_label(wrapped(figure.y_label, 30, lines=2))
    bar.outline.set_visible(False)
    note(sheet, figure)
    give_room(sheet, axes, width, high * rows)
    return sheet


def _words(point: Point, figure: Plot, most: int) -> str:
    """Mean and spread, how many seeds where others have more, or why there is nothing."""
    if point.summary is None:
        return wrapped(point.missing, 13)
    column = Column(figure.layout.y, digits=figure.layout.digits)
    mean, n = number_text(point.summary.mean, column), point.summary.n
    spread = "" if point.summary.std is None else f"± {number_text(point.summary.std, column)}"
    few = "" if n == most else f"n={n}"
    return "\n".join(filter(None, (mean, " ".join(filter(None, (spread, few))))))


def _hatch(axes: Axes, across: int, down: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (across - 0.5, down - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor="0.97", edgecolor="0.6", hatch="////", linewidth=0))


def _dress(axes: Axes, figure: Plot, rows: int, letters: int) -> None:
    """Title, what rows and columns are, and white lines between cells; `letters` are as wide as all columns."""
    axes.set_xlabel(wrapped(figure.x_label, letters))
    axes.set_ylabel(wrapped(figure.legend, 30, lines=2))
    set_ticks(axes.xaxis, figure, room=letters)
    axes.set_yticks(range(rows), [wrapped(line.label, 26, lines=2) for line in figure.lines])
    if figure.layout.title:
        axes.set_title(wrapped(figure.layout.title, letters + 6), fontsize=10, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.set_xticks([at + 0.5 for at in range(len(figure.ticks) - 1)], minor=True)
    axes.set_yticks([at + 0.5 for at in range(rows - 1)], minor=True)
    axes.grid(visible=True, which="minor", axis="both", color="white", linewidth=1.2, alpha=1)
    axes.tick_params(which="minor", length=0)
