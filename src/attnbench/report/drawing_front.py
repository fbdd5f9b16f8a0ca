"""Draws one number against another: a marker a setting, names beside those that no other beats, and their staircase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnbench.report.drawing import Look, dress, finish, start, with_points, wrapped
from attnbench.report.figures import Line, Plot, Point
from attnbench.report.keys import Best

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet
    from matplotlib.transforms import Bbox

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
