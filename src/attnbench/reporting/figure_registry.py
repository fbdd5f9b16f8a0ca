"""Registry of figure kinds: the function that computes a figure from runs, and the function that draws it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.reporting.attention_figures import build_attention_figure, draw_attention
from attnbench.reporting.drawing import draw_heatmap, draw_lines, draw_pareto, write_figure_files
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.figures import Figure, build_bin_plot, build_curve_plot, build_pareto_plot, build_value_plot
from attnbench.reporting.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MplFigure


@dataclass(frozen=True)
class FigureType:
    """Functions of a kind of figure."""

    build: Callable[[Sequence[Run], FigureLayout, str, Path | None], Figure]
    draw: Callable[[Any], MplFigure]  # takes the result of `build`


FIGURE_TYPES = {
    FigureKind.bins: FigureType(build_bin_plot, draw_lines),
    FigureKind.lines: FigureType(build_value_plot, draw_lines),
    FigureKind.curves: FigureType(build_curve_plot, draw_lines),
    FigureKind.pareto: FigureType(build_pareto_plot, draw_pareto),
    FigureKind.heatmap: FigureType(build_value_plot, draw_heatmap),
    FigureKind.attention: FigureType(build_attention_figure, draw_attention),
}


def build_figure(runs: Sequence[Run], layout: FigureLayout, where: str, folder: Path | None = None) -> Figure:
    """Compute a figure from runs. Means and spreads equal those of the table's cells.

    Args:
        runs: runs to show.
        layout: entry of `figures` in table.yaml.
        where: path of table.yaml, for error messages.
        folder: folder with the runs' folders, for figures that use histories or pictures.

    Raises:
        RecordError: a logarithmic axis has values that are not positive numbers.
    """
    return FIGURE_TYPES[layout.kind].build(runs, layout, where, folder)


def save_figure(figure: Figure, folder: Path) -> list[Path]:
    """Draw a figure and write <name>.pdf and <name>.png.

    Args:
        figure: the figure.
        folder: folder to write into.

    Returns:
        The paths; empty if the figure has nothing to draw.
    """
    return write_figure_files(figure, folder, FIGURE_TYPES[figure.layout.kind].draw)
