"""Draw figures with matplotlib: lines, trade-off plots and heat maps. matplotlib is imported only to draw."""

from __future__ import annotations

import logging
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attnbench.reporting.figure_specs import FigureKind
from attnbench.reporting.figures import Figure, Line, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Sheet
from typing import TYPE_CHECKING

from attnbench.reporting.figures import Point
from attnbench.reporting.keys import Best

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet
    from matplotlib.transforms import Bbox
from typing import TYPE_CHECKING

from attnbench.reporting.cells import number_text
from attnbench.reporting.layout import Column

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


_GREY = "0.45"
# Where a name may stand beside its point, in points, the best first.
_PLACES = (
    (7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top"),
    (6, 6, "left", "bottom"), (-6, 6, "right", "bottom"), (6, -6, "left", "top"), (-6, -6, "right", "top"),
)  # fmt: skip


def draw_front(figure: Plot) -> Sheet:
    """Points of each line, bars of their spread in both numbers, the front ringed and joined by steps."""
    drawn = with_points(figure)
    sheet, axes = start(figure, [line.label for _, line in drawn])
    for index, line in drawn:
        _scatter(axes, line, Look.of(index))
    points = [point for _, line in drawn for point in line.points if point.summary is not None]
    _draw_steps(axes, figure, sorted({place(point) for point in points if point.front}))
    dress(axes, figure)
    axes.margins(x=0.1, y=0.2)  # room for names
    finish(sheet, figure)
    _name(sheet, axes, points)
    return sheet


def place(point: Point) -> tuple[float, float]:
    """Where a point is, which has a number."""
    assert point.summary is not None
    return point.at, point.summary.mean


def _scatter(axes: Axes, line: Line, look: Look) -> None:
    points = [point for point in line.points if point.summary is not None]
    at, means = zip(*map(place, points), strict=True)
    axes.plot(
        at, means, look.marker, color=look.colour, markersize=5.5, label=wrapped(line.label, 26) or "_", zorder=3,
        fillstyle="none" if look.hollow else "full", markeredgewidth=1.2 if look.hollow else 0.4,
        markeredgecolor=look.colour if look.hollow else "white",
    )  # fmt: skip
    across = [point.spread or 0.0 for point in points]
    along = [(point.summary.std if point.summary is not None else None) or 0.0 for point in points]
    style: Any = {"fmt": "none", "ecolor": look.colour, "elinewidth": 0.8, "alpha": 0.45}
    if any(across):
        axes.errorbar(at, means, xerr=across, **style)
    if any(along):
        axes.errorbar(at, means, yerr=along, **style)


def _draw_steps(axes: Axes, figure: Plot, front: list[tuple[float, float]]) -> None:
    """What is reached at what cost: from a point to the next one as from one step to the next."""
    at, means = zip(*front, strict=True)
    where = "steps-post" if figure.layout.best_x is Best.min else "steps-pre"
    axes.plot(at, means, drawstyle=where, color=_GREY, linewidth=1, linestyle=(0, (4, 2)), zorder=1, label="_front")
    axes.plot(at, means, "o", markersize=11, fillstyle="none", color=_GREY, label="_ringed", zorder=2)


def _name(sheet: Sheet, axes: Axes, points: list[Point]) -> None:
    """Names beside points: of the front, at worst over other points; of others where no neighbour could be meant."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    if not any(point.name for point in points):
        return
    canvas = FigureCanvasAgg(sheet)
    renderer: Any = canvas.get_renderer()  # type: ignore[no-untyped-call]
    places = axes.transData.transform([place(point) for point in points])
    half = 4 * sheet.dpi / 72
    markers = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in places]
    named: list[Bbox] = []
    inside: Bbox = axes.get_window_extent(renderer)
    for index in sorted(range(len(points)), key=lambda index: not points[index].front):
        point = points[index]
        apart = ((((places - places[index]) ** 2).sum(1) > (4 * half) ** 2).sum()) == len(points) - 1
        if not point.name or not (point.front or apart):
            continue
        for avoided in ([*markers, *named], named) if point.front else ([*markers, *named],):
            box = _place_name(axes, point, avoided, inside, renderer)
            if box is not None:
                named.append(box)
                break


def _place_name(axes: Axes, point: Point, avoided: list[Bbox], inside: Bbox, renderer: Any) -> Bbox | None:
    """Write a point's name where it touches nothing of `avoided`, and say where; None: there is no such place."""
    for dx, dy, ha, va in _PLACES:
        text = axes.annotate(
            wrapped(point.name, 22, lines=2), place(point), (dx, dy), textcoords="offset points", ha=ha, va=va,
            fontsize=7, color="black" if point.front else _GREY, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.3},
        )  # fmt: skip
        text.set_in_layout(False)  # the axes stay where they were when the room was measured
        box = text.get_window_extent(renderer)
        within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
        if within and not any(box.overlaps(other) for other in avoided):
            return box
        text.remove()
    return None


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
