"""What all figures share, by matplotlib, which is only imported to draw: style, legend, axes; and lines in them."""

from __future__ import annotations

import logging
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attnbench.report.figure_layout import FigureKind
from attnbench.report.figures import Figure, Line, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
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
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # letters stay letters
}
# What a format would write of when and by what; a date would be another file each time.
_UNDATED = {".pdf": {"CreationDate": None}, ".png": {}}
_MANY_TICKS = 12
_LONG, _MARKED = 40, 10  # points of a line from which not each has a marker, and how many have then


class Look(NamedTuple):
    """What tells a line from the others, in colour and in grey."""

    colour: str
    marker: str
    dashes: tuple[int, tuple[float, ...]]
    hollow: bool  # of points without a line, where shapes alone are too few

    @classmethod
    def of(cls, index: int) -> Look:
        """Of the line at this place."""
        shapes = len(_MARKERS)
        return cls(
            _COLOURS[index % len(_COLOURS)], _MARKERS[index % shapes], _DASHES[index % len(_DASHES)],
            hollow=bool(index // shapes % 2),
        )  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """The one style, whatever a person has set for their own drawings."""
    import matplotlib

    # It tells of every part of every font that it takes into a PDF.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def write(figure: Figure, folder: Path, sheet: Callable[[Any], Sheet]) -> list[Path]:
    """Write <name>.pdf and <name>.png into `folder`; the paths, none of a figure that has nothing to draw.

    What an earlier drawing of that name has left is removed then.
    """
    paths = [folder / f"{figure.layout.name}{suffix}" for suffix in _UNDATED]
    if figure.empty:
        for path in paths:
            path.unlink(missing_ok=True)
        return []
    with style():
        drawn = sheet(figure)
        for path in paths:
            # A sheet without a layout ends where what is drawn on it ends.
            box = None if drawn.get_layout_engine() else "tight"
            drawn.savefig(path, dpi=200, metadata=_UNDATED[path.suffix], bbox_inches=box)
    return paths


def draw_lines(figure: Plot) -> Sheet:
    """A line for each setting of everything but the seed and what stands along the axis."""
    drawn = with_points(figure)
    sheet, axes = start(figure, [line.label for _, line in drawn])
    for index, line in drawn:
        _plot(axes, line, index, band=figure.layout.kind in (FigureKind.bins, FigureKind.curves))
    dress(axes, figure)
    if figure.ticks:
        set_ticks(axes.xaxis, figure)
    if not figure.numeric:
        axes.set_xlim(-0.5, len(figure.ticks) - 0.5)
    finish(sheet, figure)
    return sheet


def with_points(figure: Plot) -> list[tuple[int, Line]]:
    """The lines that have points, numbered before others are left out: a line keeps its look when runs are added."""
    return [(i, line) for i, line in enumerate(figure.lines) if any(point.summary for point in line.points)]


def start(figure: Plot, labels: Sequence[str]) -> tuple[Sheet, Axes]:
    """An empty sheet with room for a legend of these labels."""
    from matplotlib.figure import Figure as Sheet

    legend = _has_legend(figure)
    height = max(3.4, 0.6 + 0.17 * sum(wrapped(label, 26).count("\n") + 1.3 for label in labels)) if legend else 3.4
    sheet = Sheet(figsize=(6.6 if legend else 5.0, height), layout="constrained")
    return sheet, sheet.add_subplot()


def dress(axes: Axes, figure: Plot) -> None:
    """Title, what stands on the axes, and logarithms."""
    layout = figure.layout
    axes.set_xlabel(wrapped(figure.x_label, 56))
    axes.set_ylabel(wrapped(figure.y_label, 30, lines=2))
    if layout.title:
        axes.set_title(wrapped(layout.title, 52), fontsize=10, loc="left")
    if layout.log:
        axes.set_xscale("log", base=2 if figure.ticks else 10)
        axes.minorticks_off()
    if layout.log_y:
        axes.set_yscale("log")
    for axis, logarithmic in ((axes.xaxis, layout.log), (axes.yaxis, layout.log_y)):
        axis.set_major_formatter(lambda value, _: short(value))
        axis.set_minor_formatter(lambda value, _: "")
        if logarithmic:
            _label_between_powers(axis)


def finish(sheet: Sheet, figure: Plot) -> None:
    """The legend, and under all what a reader must know."""
    legend = _has_legend(figure)
    if legend:
        sheet.legend(loc="outside right upper", frameon=False, fontsize=8, title=wrapped(figure.legend, 26))
    note(sheet, figure)
    give_room(sheet, sheet.axes[0])


def note(sheet: Sheet, figure: Figure) -> None:
    """Under all, what a reader must know."""
    width = int(sheet.get_figwidth() * 18.5)
    sheet.supxlabel(wrapped(" ".join(figure.notes), width, lines=6), x=0.01, ha="left", fontsize=7, color="0.3")


def give_room(sheet: Sheet, axes: Axes, width: float = 2.6, height: float = 1.5) -> None:
    """Make the sheet larger until labels leave the axes so many inches."""
    for _ in range(6):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")  # that labels leave no room at all
            sheet.draw_without_rendering()
        box = axes.get_window_extent()
        lack = [max(0.0, want - has / sheet.dpi) for want, has in ((width, box.width), (height, box.height))]
        if warned:
            lack = [1.0, 1.0]
        if max(lack) < 0.02:
            return
        sheet.set_size_inches(sheet.get_figwidth() + lack[0], sheet.get_figheight() + lack[1])


def set_ticks(axis: Axis, figure: Plot, room: int = 56) -> None:
    """Ticks where bins or values are, as many as have room; tilted where their labels need more than `room` letters."""
    ticks = figure.ticks[:: math.ceil(len(figure.ticks) / _MANY_TICKS)]
    crowded = len(ticks) * max(len(part) for _, text in ticks for part in text.split("\n")) > room
    axis.set_ticks(
        [at for at, _ in ticks], ["\n".join(wrapped(part, 24) for part in text.split("\n")) for _, text in ticks]
    )
    if crowded:
        for label in axis.get_ticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def wrapped(text: str, width: int, lines: int = 3) -> str:
    """Text of so many characters a line; of what goes on for longer its beginning and its end, which tells it apart."""
    text = " ".join(text.split())
    if len(textwrap.wrap(text, width)) > lines:
        kept = int(0.8 * width * lines)  # lines are seldom full
        text = f"{text[: kept // 2].rstrip()} … {text[-(kept - kept // 2) :].lstrip()}"
    return textwrap.fill(text, width, max_lines=lines, placeholder=" …")


def short(value: float) -> str:
    """A number on an axis: 0.25, 40, 1.5k, 27M, 3e+15."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e15:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _has_legend(figure: Plot) -> bool:
    return len(figure.lines) > 1


def _label_between_powers(axis: Axis) -> None:
    """Numbers at 2 and 5 too where an axis spans little more than a power of ten, so that some two can be read."""
    from matplotlib.ticker import LogLocator

    low, high = sorted(axis.get_view_interval())
    if low > 0 and math.log10(high / low) < 2:
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))


def _plot(axes: Axes, line: Line, index: int, *, band: bool) -> None:
    """A line broken where it has no number, and its spread over seeds where it has more than one."""
    at = [point.at for point in line.points]
    mean = [math.nan if point.summary is None else point.summary.mean for point in line.points]
    stds = [point.summary.std if point.summary is not None else None for point in line.points]
    spread = [math.nan if std is None else std for std in stds]
    look, every = Look.of(index), 1 if len(at) < _LONG else len(at) // _MARKED
    axes.plot(
        at, mean, label=wrapped(line.label, 26) or "_", color=look.colour, linewidth=1.4, markersize=5,
        marker=look.marker, linestyle=look.dashes, markevery=(index % every, every),
    )  # fmt: skip
    if not any(std is not None for std in stds):
        return
    if band:
        low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(at, low, high, color=look.colour, alpha=0.15, linewidth=0)
    else:
        axes.errorbar(at, mean, yerr=spread, fmt="none", ecolor=look.colour, elinewidth=1, capsize=2.5)
