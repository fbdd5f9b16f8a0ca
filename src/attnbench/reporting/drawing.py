"""Draw lines, Pareto plots and heatmaps. matplotlib is imported only when a figure is drawn."""

from __future__ import annotations

import logging
import math
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attnbench.reporting.cells import format_number
from attnbench.reporting.figure_specs import FigureKind
from attnbench.reporting.figures import Figure, Line, Plot, Point
from attnbench.reporting.keys import Best
from attnbench.reporting.layout import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as MplFigure
    from matplotlib.transforms import Bbox

# Okabe and Ito 2008, distinguishable for color-blind readers; without yellow, which is hard to see on white.
_COLORS = ("#000000", "#D55E00", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#0072B2")
# Shapes and dashes distinguish lines in gray print; 5 and 7 have no common factor, so that 35 lines all differ.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, ()), (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
_RC_PARAMS: dict[Any, Any] = {
    "font.size": 9,
    "text.parse_math": False,  # a label may contain dollar signs
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.alpha": 0.4,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # embed fonts as text
}
# No creation date: the same figure gives the same bytes.
_METADATA = {".pdf": {"CreationDate": None}, ".png": {}}
_MANY_TICKS = 12
_MARKER_LIMIT, _MARKERS_PER_LINE = 40, 10  # lines with this many points or more have this many markers


class LineStyle(NamedTuple):
    """Color, marker and dashes of a line, so that lines also differ in gray print."""

    color: str
    marker: str
    dashes: tuple[int, tuple[float, ...]]
    hollow: bool  # open markers, for points without a line when there are more than seven

    @classmethod
    def from_index(cls, index: int) -> LineStyle:
        """Return the style of the line at this index."""
        shapes = len(_MARKERS)
        return cls(
            _COLORS[index % len(_COLORS)], _MARKERS[index % shapes], _DASHES[index % len(_DASHES)],
            hollow=bool(index // shapes % 2),
        )  # fmt: skip


@contextmanager
def plotting_style() -> Iterator[None]:
    """Apply the project's matplotlib settings, independent of the user's own."""
    import matplotlib

    # fontTools logs every font table that is embedded into a PDF.
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC_PARAMS)
        yield


def write_figure_files(figure: Figure, folder: Path, fig: Callable[[Any], MplFigure]) -> list[Path]:
    """Write <name>.pdf and <name>.png into a folder.

    If the figure has nothing to draw, files of an earlier drawing are removed.

    Args:
        figure: the figure.
        folder: folder to write into.
        fig: function that draws the figure.

    Returns:
        The paths; empty if the figure has nothing to draw.
    """
    paths = [folder / f"{figure.layout.name}{suffix}" for suffix in _METADATA]
    if figure.is_empty:
        for path in paths:
            path.unlink(missing_ok=True)
        return []
    with plotting_style():
        drawn = fig(figure)
        for path in paths:
            # A figure without a layout engine is cropped to its content.
            box = None if drawn.get_layout_engine() else "tight"
            drawn.savefig(path, dpi=200, metadata=_METADATA[path.suffix], bbox_inches=box)
    return paths


def draw_lines(figure: Plot) -> MplFigure:
    """Draw a line for each setting."""
    drawn = select_drawn_lines(figure)
    fig, axes = create_axes(figure, [line.label for _, line in drawn])
    for index, line in drawn:
        _plot_line(axes, line, index, band=figure.layout.kind in (FigureKind.bins, FigureKind.curves))
    label_axes(axes, figure)
    if figure.ticks:
        set_ticks(axes.xaxis, figure)
    if not figure.numeric:
        axes.set_xlim(-0.5, len(figure.ticks) - 0.5)
    add_legend_and_notes(fig, figure)
    return fig


def select_drawn_lines(figure: Plot) -> list[tuple[int, Line]]:
    """Return the lines that have points, with their index among all lines, which decides their style."""
    return [(i, line) for i, line in enumerate(figure.lines) if any(point.summary for point in line.points)]


def create_axes(figure: Plot, labels: Sequence[str]) -> tuple[MplFigure, Axes]:
    """Create a figure with one axes and space for a legend with these labels."""
    from matplotlib.figure import Figure as MplFigure

    legend = _has_legend(figure)
    height = max(3.4, 0.6 + 0.17 * sum(wrap_text(label, 26).count("\n") + 1.3 for label in labels)) if legend else 3.4
    fig = MplFigure(figsize=(6.6 if legend else 5.0, height), layout="constrained")
    return fig, fig.add_subplot()


def label_axes(axes: Axes, figure: Plot) -> None:
    """Set title, axis labels, and logarithmic scales."""
    layout = figure.layout
    axes.set_xlabel(wrap_text(figure.x_label, 56))
    axes.set_ylabel(wrap_text(figure.y_label, 30, lines=2))
    if layout.title:
        axes.set_title(wrap_text(layout.title, 52), fontsize=10, loc="left")
    if layout.log:
        axes.set_xscale("log", base=2 if figure.ticks else 10)
        axes.minorticks_off()
    if layout.log_y:
        axes.set_yscale("log")
    for axis, logarithmic in ((axes.xaxis, layout.log), (axes.yaxis, layout.log_y)):
        axis.set_major_formatter(lambda value, _: format_tick(value))
        axis.set_minor_formatter(lambda value, _: "")
        if logarithmic:
            _add_intermediate_ticks(axis)


def add_legend_and_notes(fig: MplFigure, figure: Plot) -> None:
    """Add the legend, and the notes below the axes."""
    legend = _has_legend(figure)
    if legend:
        fig.legend(loc="outside right upper", frameon=False, fontsize=8, title=wrap_text(figure.legend, 26))
    add_notes(fig, figure)
    enlarge_to_fit(fig, fig.axes[0])


def add_notes(fig: MplFigure, figure: Figure) -> None:
    """Add the notes below the axes."""
    width = int(fig.get_figwidth() * 18.5)
    fig.supxlabel(wrap_text(" ".join(figure.notes), width, lines=6), x=0.01, ha="left", fontsize=7, color="0.3")


def enlarge_to_fit(fig: MplFigure, axes: Axes, width: float = 2.6, height: float = 1.5) -> None:
    """Enlarge the figure until the axes have the given size.

    Args:
        fig: the figure.
        axes: the axes to measure.
        width: smallest width in inches.
        height: smallest height in inches.
    """
    for _ in range(6):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")  # matplotlib warns when labels leave no space
            fig.draw_without_rendering()
        box = axes.get_window_extent()
        lack = [max(0.0, want - has / fig.dpi) for want, has in ((width, box.width), (height, box.height))]
        if warned:
            lack = [1.0, 1.0]
        if max(lack) < 0.02:
            return
        fig.set_size_inches(fig.get_figwidth() + lack[0], fig.get_figheight() + lack[1])


def set_ticks(axis: Axis, figure: Plot, max_characters: int = 56) -> None:
    """Set ticks at bins or values; labels with more than `max_characters` characters together are rotated."""
    ticks = figure.ticks[:: math.ceil(len(figure.ticks) / _MANY_TICKS)]
    crowded = len(ticks) * max(len(part) for _, text in ticks for part in text.split("\n")) > max_characters
    axis.set_ticks(
        [at for at, _ in ticks], ["\n".join(wrap_text(part, 24) for part in text.split("\n")) for _, text in ticks]
    )
    if crowded:
        for label in axis.get_ticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def wrap_text(text: str, width: int, lines: int = 3) -> str:
    """Wrap text into lines of `width` characters; long text keeps its beginning and its end.

    Args:
        text: text to wrap.
        width: characters per line.
        lines: largest number of lines.
    """
    text = " ".join(text.split())
    if len(textwrap.wrap(text, width)) > lines:
        kept = int(0.8 * width * lines)  # lines are rarely full
        text = f"{text[: kept // 2].rstrip()} … {text[-(kept - kept // 2) :].lstrip()}"
    return textwrap.fill(text, width, max_lines=lines, placeholder=" …")


def format_tick(value: float) -> str:
    """Format a number for an axis: 0.25, 40, 1.5k, 27M, 3e+15."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e15:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def _has_legend(figure: Plot) -> bool:
    return len(figure.lines) > 1


def _add_intermediate_ticks(axis: Axis) -> None:
    """Add ticks at 2 and 5 if a logarithmic axis spans less than two powers of ten."""
    from matplotlib.ticker import LogLocator

    low, high = sorted(axis.get_view_interval())
    if low > 0 and math.log10(high / low) < 2:
        axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))


def _plot_line(axes: Axes, line: Line, index: int, *, band: bool) -> None:
    """Draw a line, interrupted where there is no number, and its spread over seeds."""
    at = [point.x for point in line.points]
    mean = [math.nan if point.summary is None else point.summary.mean for point in line.points]
    stds = [point.summary.std if point.summary is not None else None for point in line.points]
    spread = [math.nan if std is None else std for std in stds]
    look, every = LineStyle.from_index(index), 1 if len(at) < _MARKER_LIMIT else len(at) // _MARKERS_PER_LINE
    axes.plot(
        at, mean, label=wrap_text(line.label, 26) or "_", color=look.color, linewidth=1.4, markersize=5,
        marker=look.marker, linestyle=look.dashes, markevery=(index % every, every),
    )  # fmt: skip
    if not any(std is not None for std in stds):
        return
    if band:
        low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
        axes.fill_between(at, low, high, color=look.color, alpha=0.15, linewidth=0)
    else:
        axes.errorbar(at, mean, yerr=spread, fmt="none", ecolor=look.color, elinewidth=1, capsize=2.5)


_GRAY = "0.45"
# Possible offsets of a name from its point, in points, the best first.
_NAME_OFFSETS = (
    (7, 0, "left", "center"), (-7, 0, "right", "center"), (0, 7, "center", "bottom"), (0, -7, "center", "top"),
    (6, 6, "left", "bottom"), (-6, 6, "right", "bottom"), (6, -6, "left", "top"), (-6, -6, "right", "top"),
)  # fmt: skip


def draw_pareto(figure: Plot) -> MplFigure:
    """Draw points with error bars in both numbers; the Pareto front is ringed and joined by steps."""
    drawn = select_drawn_lines(figure)
    fig, axes = create_axes(figure, [line.label for _, line in drawn])
    for index, line in drawn:
        _plot_points(axes, line, LineStyle.from_index(index))
    points = [point for _, line in drawn for point in line.points if point.summary is not None]
    _draw_steps(axes, figure, sorted({get_position(point) for point in points if point.is_on_front}))
    label_axes(axes, figure)
    axes.margins(x=0.1, y=0.2)  # space for the names of points
    add_legend_and_notes(fig, figure)
    _write_point_names(fig, axes, points)
    return fig


def get_position(point: Point) -> tuple[float, float]:
    """Return x and mean of a point that has a number."""
    assert point.summary is not None
    return point.x, point.summary.mean


def _plot_points(axes: Axes, line: Line, look: LineStyle) -> None:
    points = [point for point in line.points if point.summary is not None]
    at, means = zip(*map(get_position, points), strict=True)
    axes.plot(
        at, means, look.marker, color=look.color, markersize=5.5, label=wrap_text(line.label, 26) or "_", zorder=3,
        fillstyle="none" if look.hollow else "full", markeredgewidth=1.2 if look.hollow else 0.4,
        markeredgecolor=look.color if look.hollow else "white",
    )  # fmt: skip
    across = [point.spread or 0.0 for point in points]
    along = [(point.summary.std if point.summary is not None else None) or 0.0 for point in points]
    style: Any = {"fmt": "none", "ecolor": look.color, "elinewidth": 0.8, "alpha": 0.45}
    if any(across):
        axes.errorbar(at, means, xerr=across, **style)
    if any(along):
        axes.errorbar(at, means, yerr=along, **style)


def _draw_steps(axes: Axes, figure: Plot, front: list[tuple[float, float]]) -> None:
    """Draw the Pareto front as steps."""
    at, means = zip(*front, strict=True)
    where = "steps-post" if figure.layout.best_x is Best.min else "steps-pre"
    axes.plot(at, means, drawstyle=where, color=_GRAY, linewidth=1, linestyle=(0, (4, 2)), zorder=1, label="_front")
    axes.plot(at, means, "o", markersize=11, fillstyle="none", color=_GRAY, label="_ringed", zorder=2)


def _write_point_names(fig: MplFigure, axes: Axes, points: list[Point]) -> None:
    """Write names beside points: always for the front, for other points only where no neighbor is near."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    if not any(point.name for point in points):
        return
    canvas = FigureCanvasAgg(fig)
    renderer: Any = canvas.get_renderer()  # type: ignore[no-untyped-call]
    places = axes.transData.transform([get_position(point) for point in points])
    half = 4 * fig.dpi / 72
    markers = [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in places]
    named: list[Bbox] = []
    inside: Bbox = axes.get_window_extent(renderer)
    for index in sorted(range(len(points)), key=lambda index: not points[index].is_on_front):
        point = points[index]
        apart = ((((places - places[index]) ** 2).sum(1) > (4 * half) ** 2).sum()) == len(points) - 1
        if not point.name or not (point.is_on_front or apart):
            continue
        for avoided in ([*markers, *named], named) if point.is_on_front else ([*markers, *named],):
            box = _place_name(axes, point, avoided, inside, renderer)
            if box is not None:
                named.append(box)
                break


def _place_name(axes: Axes, point: Point, avoided: list[Bbox], inside: Bbox, renderer: Any) -> Bbox | None:
    """Write a point's name at the first offset where it overlaps nothing of `avoided`.

    Returns:
        The box of the text; None if there is no free position.
    """
    for dx, dy, ha, va in _NAME_OFFSETS:
        text = axes.annotate(
            wrap_text(point.name, 22, lines=2), get_position(point), (dx, dy), textcoords="offset points", ha=ha, va=va,
            fontsize=7, color="black" if point.is_on_front else _GRAY, zorder=4,
            bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.3},
        )  # fmt: skip
        text.set_in_layout(False)  # the layout is already measured: the text must not change it
        box = text.get_window_extent(renderer)
        within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
        if within and not any(box.overlaps(other) for other in avoided):
            return box
        text.remove()
    return None


_NOT_PLANNED = "no run"  # text for a setting that was not planned
_WIDE_CELL, _CELL_HEIGHT, _SMALL_CELL = (
    0.78,
    0.44,
    0.26,
)  # inches: width and height of a cell with text; side of a cell without text
_MAX_COLUMNS_WITH_TEXT = 12  # with more columns, cells have no text


def draw_heatmap(figure: Plot) -> MplFigure:
    """Draw a heatmap: one row per line of the figure, one column per value of its key."""
    import numpy as np
    from matplotlib.figure import Figure as MplFigure

    rows, columns = len(figure.lines), len(figure.ticks)
    known = [{point.x: point for point in line.points} for line in figure.lines]
    cells = [[points.get(at, Point(at, None, _NOT_PLANNED)) for at, _ in figure.ticks] for points in known]
    means = np.array([[math.nan if point.summary is None else point.summary.mean for point in row] for row in cells])
    wide, high = (_WIDE_CELL, _CELL_HEIGHT) if columns <= _MAX_COLUMNS_WITH_TEXT else (_SMALL_CELL, _SMALL_CELL)
    width = max(1.6, wide * columns)
    fig = MplFigure(figsize=(3 + width, 1 + high * rows), layout="constrained")
    axes = fig.add_subplot()
    image = axes.imshow(np.ma.masked_invalid(means), cmap="viridis", aspect="auto", interpolation="nearest")
    share = np.asarray(image.norm(means))
    most = max((point.summary.n for row in cells for point in row if point.summary is not None), default=1)
    for down, row in enumerate(cells):
        for across, point in enumerate(row):
            if point.summary is None:
                _hatch_cell(axes, across, down)
            if columns <= _MAX_COLUMNS_WITH_TEXT:
                light = point.summary is None or share[down, across] > 0.6
                axes.text(
                    across, down, _format_heatmap_cell(point, figure, most), ha="center", va="center", fontsize=7,
                    linespacing=0.95,
                    color="black" if light else "white",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1} if point.summary is None else None,
                )  # fmt: skip
    _label_heatmap(axes, figure, rows, max_characters=int(11 * width))
    bar = fig.colorbar(image, ax=axes, pad=0.02, aspect=30, format=lambda value, _: format_tick(value))
    bar.set_label(wrap_text(figure.y_label, 30, lines=2))
    bar.outline.set_visible(False)
    add_notes(fig, figure)
    enlarge_to_fit(fig, axes, width, high * rows)
    return fig


def _format_heatmap_cell(point: Point, figure: Plot, max_seeds: int) -> str:
    """Format a cell: mean, spread, number of seeds if others have more; or why there is no number."""
    if point.summary is None:
        return wrap_text(point.missing, 13)
    column = Column(figure.layout.y, digits=figure.layout.digits)
    mean, n = format_number(point.summary.mean, column), point.summary.n
    spread = "" if point.summary.std is None else f"± {format_number(point.summary.std, column)}"
    few = "" if n == max_seeds else f"n={n}"
    return "\n".join(filter(None, (mean, " ".join(filter(None, (spread, few))))))


def _hatch_cell(axes: Axes, across: int, down: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (across - 0.5, down - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, facecolor="0.97", edgecolor="0.6", hatch="////", linewidth=0))


def _label_heatmap(axes: Axes, figure: Plot, rows: int, max_characters: int) -> None:
    """Set title, axis labels, and white lines between cells.

    Args:
        axes: the axes.
        figure: the figure.
        rows: number of rows.
        max_characters: number of characters that fit the width of all columns.
    """
    axes.set_xlabel(wrap_text(figure.x_label, max_characters))
    axes.set_ylabel(wrap_text(figure.legend, 30, lines=2))
    set_ticks(axes.xaxis, figure, max_characters=max_characters)
    axes.set_yticks(range(rows), [wrap_text(line.label, 26, lines=2) for line in figure.lines])
    if figure.layout.title:
        axes.set_title(wrap_text(figure.layout.title, max_characters + 6), fontsize=10, loc="left")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.set_xticks([at + 0.5 for at in range(len(figure.ticks) - 1)], minor=True)
    axes.set_yticks([at + 0.5 for at in range(rows - 1)], minor=True)
    axes.grid(visible=True, which="minor", axis="both", color="white", linewidth=1.2, alpha=1)
    axes.tick_params(which="minor", length=0)
