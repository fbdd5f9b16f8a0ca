"""What pictures are drawn on: figures without a screen, and pages of small pictures and words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


def blank_figure(width: float, height: float, *, dpi: int = 150, constrained: bool = False) -> Figure:
    """A figure of so many inches, drawn without pyplot, which would keep every figure and look for a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG that holds all that was drawn and a small margin, and the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", bbox_inches="tight", pad_inches=0.12)


def one_axes(width: float, height: float, *, dpi: int = 150) -> tuple[Figure, Axes]:
    """A figure that is all axes, so many inches wide and high; labels come on top of that.

    Where to put axes need not be found out then, for which every label would be measured several times.
    """
    figure = blank_figure(width, height, dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def draw_bar(figure: Figure, image: AxesImage, label: str, ticks: list[float], *, room: float = 0.1) -> Axes:
    """A colour bar as high as the axes, `room` inches right of them."""
    width = figure.get_figwidth()
    axes = figure.add_axes((1 + room / width, 0, 0.14 / width, 1))
    bar = figure.colorbar(image, cax=axes, ticks=ticks)
    bar.set_label(label, fontsize=8)
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=7)
    return axes


def check_shape(what: str, array: np.ndarray, expected: tuple[int, ...], why: str) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ValueError: says what has which shape, and why another was expected.
    """
    if array.shape != expected:
        raise ValueError(f"{what} of shape {array.shape}, expected {expected} for {why}")


class Page:
    """Small pictures and words at places in inches from an upper left corner; the page ends where they end.

    It is one axes with many images: an axes a picture would be many times slower. `origin` is where places are counted
    from: what is drawn next is moved with it.
    """

    def __init__(self) -> None:
        self.origin = (0.0, 0.0)
        self.figure = blank_figure(1, 1)
        self._axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(1, 0), autoscale_on=False)
        self._axes.set_axis_off()

    def image(self, pixels_HW3: np.ndarray, left: float, top: float, width: float, height: float) -> None:
        """Put a picture of bytes there, stretched to that size."""
        left, top = left + self.origin[0], top + self.origin[1]
        self._axes.imshow(pixels_HW3, extent=(left, left + width, top + height, top), aspect="auto", clip_on=False)

    def text(self, words: str, left: float, top: float, size: float, **style: Any) -> None:
        """Put words there as they are, dollar signs too; `size` in points, `style` as matplotlib's Text has it."""
        left, top = left + self.origin[0], top + self.origin[1]
        self._axes.text(left, top, words, fontsize=size, parse_math=False, **style)

    def save(self, path: Path) -> None:
        """Write a PNG."""
        save_figure(self.figure, path)
