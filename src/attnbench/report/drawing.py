"""A figure as PDF and as PNG, by matplotlib, which is only imported to draw; the same figure gives the same bytes."""

from __future__ import annotations

import logging
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.report.figure_layout import FigureKind
from attnbench.report.figures import Figure, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

# Okabe and Ito 2008, told apart by colour-blind readers; yellow, which white paper swallows, left out.
_COLOURS = ("#000000", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
# In grey, shapes and dashes tell lines apart; five and seven have no common factor, so that 35 lines all differ.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, ()), (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.parse_math": False,  # a label may hold dollar signs, and is no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.alpha": 0.4,
    "pdf.fonttype": 42,  # letters stay letters
}
# What a format would write of when and by what; a date would be another file each time.
_UNDATED = {".pdf": {"CreationDate": None}, ".png": {}}
_MANY_TICKS = 12


def draw(figure: Figure, folder: Path) -> list[Path]:
    """Write <name>.pdf and <name>.png into `folder`; the paths, none of a figure that has nothing to draw.

    What an earlier drawing of that name has left is removed then.
    """
    paths = [folder / f"{figure.layout.name}{suffix}" for suffix in _UNDATED]
    if figure.empty:
        for path in paths:
            path.unlink(missing_ok=True)
        return []
    import matplotlib

    # It tells of every part of every font that it takes into a PDF.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # what a person has set for their own drawings would change these
        matplotlib.rcParams.update(_STYLE)
        sheet = _sheet(figure)
        for path in paths:
            sheet.savefig(path, dpi=200, metadata=_UNDATED[path.suffix])
    return paths


def _sheet(figure: Figure) -> Sheet:
    from matplotlib.figure import Figure as Sheet

    # Numbered before those without a point are left out: a line keeps its look when another gets its first run.
    drawn = [(i, line) for i, line in enumerate(figure.lines) if any(point.summary for point in line.points)]
    labels = [_wrapped(line.label, 26) for _, line in drawn]
    legend = len(figure.lines) > 1
    height = max(3.4, 0.6 + 0.17 * sum(label.count("\n") + 1.3 for label in labels)) if legend else 3.4
    sheet = Sheet(figsize=(6.6 if legend else 5.0, height), layout="constrained")
    axes = sheet.add_subplot()
    for (index, line), label in zip(drawn, labels, strict=True):
        _plot(axes, line, index, label, band=figure.layout.kind is FigureKind.bins)
    _axis(axes, figure)
    if figure.layout.title:
        axes.set_title(_wrapped(figure.layout.title, 52), fontsize=10, loc="left")
    axes.set_ylabel(_wrapped(figure.y_label, 30, lines=2))
    if figure.layout.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # powers would be formulas, which are not parsed
    if legend:
        sheet.legend(loc="outside right upper", frameon=False, fontsize=8, title=_wrapped(figure.legend, 26))
    sheet.supxlabel(
        _wrapped(" ".join(figure.notes), 120 if legend else 95, lines=6), x=0.01, ha="left", fontsize=7, color="0.3"
    )
    return sheet


def _plot(axes: Axes, line: Line, index: int, label: str, *, band: bool) -> None:
    """A line broken where it has no number, and its spread over seeds where it has more than one."""
    at = [point.at for point in line.points]
    mean = [math.nan if point.summary is None else point.summary.mean for point in line.points]
    stds = [point.summary.std if point.summary is not None else None for point in line.points]
    spread = [math.nan if std is None else std for std in stds]
    colour = _COLOURS[index % len(_COLOURS)]
    axes.plot(
        at, mean, label=label or "_", color=colour, linewidth=1.4, markersize=5,
        marker=_MARKERS[index % len(_MARKERS)], linestyle=_DASHES[index % len(_DASHES)],
    )  # fmt: skip
    if not any(std is not None for std in stds):
        return
    if band:
        low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
    else:
        axes.errorbar(at, mean, yerr=spread, fmt="none", ecolor=colour, elinewidth=1, capsize=2.5)


def _axis(axes: Axes, figure: Figure) -> None:
    """Ticks where the bins or values are; a number's place is its size."""
    axes.set_xlabel(_wrapped(figure.x_label, 56))
    if figure.layout.log:
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
    ticks = figure.ticks[:: math.ceil(len(figure.ticks) / _MANY_TICKS)]
    crowded = len(ticks) * max(len(part) for _, text in ticks for part in text.split("\n")) > 56
    labels = ["\n".join(_wrapped(part, 24) for part in text.split("\n")) for _, text in ticks]
    axes.set_xticks([at for at, _ in ticks], labels)
    if crowded:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    if not figure.numeric:
        axes.set_xlim(-0.5, len(figure.ticks) - 0.5)


def _wrapped(text: str, width: int, lines: int = 3) -> str:
    """Text of so many characters a line; what goes on for longer is cut, and leaves room for the drawing."""
    return textwrap.fill(" ".join(text.split()), width, max_lines=lines, placeholder=" …")
