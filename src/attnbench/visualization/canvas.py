"""Drawing surfaces: figures without a screen, and a canvas of many small images and texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage


def create_figure(width: float, height: float, *, dpi: int = 150, constrained: bool = False) -> Figure:
    """Create a figure without pyplot, which would keep all figures in memory and look for a screen.

    Args:
        width: in inches.
        height: in inches.
        dpi: dots per inch.
        constrained: use matplotlib's constrained layout.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG cropped to the drawing with a small margin, and create its folders.

    Args:
        figure: matplotlib figure.
        path: PNG file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", bbox_inches="tight", pad_inches=0.12)


def create_single_axes(width: float, height: float, *, dpi: int = 150) -> tuple[Figure, Axes]:
    """Create a figure filled by one axes; labels are drawn outside of it.

    A fixed layout avoids measuring all labels several times.

    Args:
        width: of the axes in inches.
        height: of the axes in inches.
        dpi: dots per inch.
    """
    figure = create_figure(width, height, dpi=dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def draw_colorbar(figure: Figure, image: AxesImage, label: str, ticks: list[float], *, padding: float = 0.1) -> Axes:
    """Draw a colorbar as high as the axes, `padding` inches to their right.

    Args:
        figure: matplotlib figure.
        image: image with the color scale.
        label: text beside the colorbar.
        ticks: positions of ticks.
        padding: inches between axes and colorbar.
    """
    width = figure.get_figwidth()
    axes = figure.add_axes((1 + padding / width, 0, 0.14 / width, 1))
    bar = figure.colorbar(image, cax=axes, ticks=ticks)
    bar.set_label(label, fontsize=8)
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=7)
    return axes


def check_shape(name: str, array: np.ndarray, expected: tuple[int, ...], reason: str) -> None:
    """Check the shape of an array.

    Args:
        name: name of the array in the message.
        array: the array.
        expected: expected shape.
        reason: why this shape is expected.

    Raises:
        ValueError: if the shape differs.
    """
    if array.shape != expected:
        raise ValueError(f"{name} of shape {array.shape}, expected {expected} for {reason}")


class Canvas:
    """Canvas of small images and texts, placed in inches from the upper left corner; it grows with its content.

    It uses one axes with many images, which is many times faster than one axes for each image. All positions are
    relative to `origin`, which a caller may move.
    """

    def __init__(self) -> None:
        self.origin = (0.0, 0.0)
        self.figure = create_figure(1, 1)
        self._axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, 1), ylim=(1, 0), autoscale_on=False)
        self._axes.set_axis_off()

    def draw_image(self, pixels_HW3: np.ndarray, left: float, top: float, width: float, height: float) -> None:
        """Draw RGB bytes, scaled to this size.

        Args:
            pixels_HW3: uint8 RGB.
            left: inches from the left.
            top: inches from the top.
            width: inches.
            height: inches.
        """
        left, top = left + self.origin[0], top + self.origin[1]
        self._axes.imshow(pixels_HW3, extent=(left, left + width, top + height, top), aspect="auto", clip_on=False)

    def draw_text(self, text: str, left: float, top: float, size: float, **style: Any) -> None:
        """Draw text without interpreting it as math (dollar signs are literal).

        Args:
            text: the text.
            left: in inches.
            top: in inches.
            size: in points.
            **style: arguments of matplotlib's Text.
        """
        left, top = left + self.origin[0], top + self.origin[1]
        self._axes.text(left, top, text, fontsize=size, parse_math=False, **style)

    def save(self, path: Path) -> None:
        """Write a PNG."""
        save_figure(self.figure, path)
