"""Every kind of figure: what makes it from runs, and what draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.reporting.attention_figures import by_probe, draw_atlas
from attnbench.reporting.drawing import draw_front, draw_heat, draw_lines, write
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.figures import Figure, by_bins, by_cost, by_progress, by_values
from attnbench.reporting.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Sheet


@dataclass(frozen=True)
class Kind:
    """How a kind of figure comes about."""

    build: Callable[[Sequence[Run], FigureLayout, str, Path | None], Figure]
    draw: Callable[[Any], Sheet]  # what `build` built


KINDS = {
    FigureKind.bins: Kind(by_bins, draw_lines),
    FigureKind.lines: Kind(by_values, draw_lines),
    FigureKind.curves: Kind(by_progress, draw_lines),
    FigureKind.pareto: Kind(by_cost, draw_front),
    FigureKind.heat: Kind(by_values, draw_heat),
    FigureKind.atlas: Kind(by_probe, draw_atlas),
}


def build_figure(runs: Sequence[Run], layout: FigureLayout, where: str, folder: Path | None = None) -> Figure:
    """What `layout` says of `runs`; `where` names its file in errors. Means and spreads are those of the table's cells.

    Raises:
        RecordError: a logarithmic axis for what is no positive number.
    """
    return KINDS[layout.kind].build(runs, layout, where, folder)


def draw(figure: Figure, folder: Path) -> list[Path]:
    """Write <name>.pdf and <name>.png into `folder`; the paths, none of a figure that has nothing to draw."""
    return write(figure, folder, KINDS[figure.layout.kind].draw)
