"""Figures of image classification: attention to patches, similarity of positions, confusion matrix."""

# Shapes: H height and W width in pixels, C color channels or 3 (red, green, blue);
#         L layers, H heads, P patches, T tokens (patches, and perhaps a classifying one), K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.visualization.canvas import Canvas, check_shape, create_single_axes, draw_colorbar, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Grid = tuple[int, int]  # rows and columns of patches

# Perceptually uniform color maps, readable in gray print and by color-blind readers.
_HEATMAP_COLORS, _SIMILARITY_COLORS, _SHARE_COLORS = "magma", "viridis", "magma_r"
_WRONG_COLOR = "#a50f15"
_NOTE = "Attention to each patch. Every tile is scaled to its own maximum, which is printed below it."
_LARGE_TILE, _SMALL_TILE, _GAP, _NOTED_GAP = (
    2.2,
    1.1,
    0.07,
    0.22,
)  # inches: sides of tiles; between them, and with a number there
_TILES = _LARGE_TILE + 0.8  # inches from the left to the tiles of layers and heads
_MAX_CLASSES_WITH_COUNTS, _MAX_CLASSES_WITH_PERCENTAGES = (
    12,
    30,
)  # with more classes, cells have no counts; with still more, no numbers


def compute_rollout(weights_LHTT: np.ndarray) -> np.ndarray:
    """Compute attention rollout: the share of each input token (column) in each output token (row).

    Heads are averaged, half of each layer is its residual connection, and the layers are multiplied from the first
    one, `weights_LHTT[0]`. Source: Abnar & Zuidema 2020, section 3, equation 1.

    Returns:
        A matrix TT whose rows sum to one.
    """
    identity_TT = np.eye(weights_LHTT.shape[-1])
    found_TT = identity_TT
    for weights_HTT in weights_LHTT:
        mixed_TT = 0.5 * weights_HTT.mean(0, dtype=np.float64) + 0.5 * identity_TT
        found_TT = mixed_TT / mixed_TT.sum(-1, keepdims=True) @ found_TT
    return found_TT


@dataclass(frozen=True)
class PatchAttention:
    """Figure of the attention of one example's classification to each patch, by layer and head.

    `weights_LHP` is the attention of the classifying token, or the mean over all patches, to each patch. Its sum may
    be less than one, because the classifying token also attends to itself.

    Raises:
        ValueError: if the shapes do not fit each other.
    """

    name: str
    pixels_HWC: np.ndarray  # 0 to 1; C is 1 or 3
    weights_LHP: np.ndarray
    rollout_P: np.ndarray
    grid: Grid
    label: str
    predicted: str
    confidence: float  # the probability of `predicted`

    def __post_init__(self) -> None:
        if self.pixels_HWC.ndim != 3 or self.pixels_HWC.shape[2] not in (1, 3):
            raise ValueError(f"{self.name}: pixels of shape {self.pixels_HWC.shape}, expected height x width x 1 or 3")
        patches, why = prod(self.grid), f"{self.grid[0]} x {self.grid[1]} patches"
        check_shape(f"{self.name}: weights", self.weights_LHP, (*self.weights_LHP.shape[:2], patches), why)
        check_shape(f"{self.name}: rollout", self.rollout_P, (patches,), why)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in units of the longer side."""
        height, width = self.pixels_HWC.shape[:2]
        return width / max(height, width), height / max(height, width)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all fields as arrays, named without their shape suffixes."""
        return {name.split("_")[0]: np.array(value) for name, value in vars(self).items() if name != "name"}

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> PatchAttention:
        """Build the figure from the result of `to_arrays`.

        Args:
            name: name of the figure.
            arrays: arrays by name.
        """
        rows, columns = arrays["grid"].tolist()
        labels = (arrays[key].item() for key in ("label", "predicted", "confidence"))
        return cls(name, arrays["pixels"], arrays["weights"], arrays["rollout"], (rows, columns), *labels)

    def save(self, path: Path) -> None:
        """Write a PNG: the image and its rollout on the left.

        One row for each layer and one column for each head on the right.
        """
        page = Canvas()
        self.draw_on(page)
        page.save(path)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height in inches of all tiles and the legend, without the title."""
        layers, heads = self.weights_LHP.shape[:2]
        _, (across, down), bottom = self._compute_layout()
        return _TILES + heads * across, max(layers * down, bottom + 1.0)

    def draw_on(self, page: Canvas) -> None:
        """Draw at the origin of a canvas."""
        layers, heads = self.weights_LHP.shape[:2]
        width, height = self.size
        side, (across, down), bottom = self._compute_layout()
        middle = bottom - _LARGE_TILE * height
        self.draw_title(page, 30, left=0, top=-0.05, size=9, va="bottom")
        page.draw_image(self.get_rgb_pixels(), 0, 0, _LARGE_TILE * width, _LARGE_TILE * height)
        page.draw_text("rollout", 0, middle - 0.05, 9, va="bottom")
        self.draw_heatmap(page, self.rollout_P, 0, middle, _LARGE_TILE)
        _draw_legend(page, 0, bottom + 0.3)
        for head in range(heads):
            x = _TILES + head * across + side * width / 2
            page.draw_text(f"head {head + 1}", x, -0.05, 8, ha="center", va="bottom")
        for layer in range(layers):
            y = layer * down
            page.draw_text(f"layer {layer + 1}", _TILES - 0.08, y + side * height / 2, 8, ha="right", va="center")
            for head in range(heads):
                self.draw_heatmap(page, self.weights_LHP[layer, head], _TILES + head * across, y, side)

    def _compute_layout(self) -> tuple[float, tuple[float, float], float]:
        """Compute, in inches, the longer side of a tile, the gaps between tiles, and where the rollout ends."""
        width, height = self.size
        bottom = 2 * _LARGE_TILE * height + 0.35
        # As high as what is on the left.
        side = float(np.clip((bottom / len(self.weights_LHP) - _NOTED_GAP) / height, 0.9, 1.8))
        return side, (side * width + _GAP, side * height + _NOTED_GAP), bottom

    def draw_title(self, page: Canvas, columns: int, **style: Any) -> None:
        """Draw the label, and the prediction in red where it is wrong."""
        title, color = self.label, "black"
        if self.predicted != self.label:
            title, color = f"{self.label}, taken for {self.predicted} ({self.confidence:.2f})", _WRONG_COLOR
        page.draw_text(fill(title, columns), color=color, **style)

    def draw_heatmap(self, page: Canvas, weights_P: np.ndarray, left: float, top: float, side: float) -> None:
        """Draw a heatmap over the image, its longer side `side` inches, and the maximum below it."""
        width, height = (side * part for part in self.size)
        page.draw_image(self.compute_heatmap(weights_P), left, top, width, height)
        page.draw_text(f"{weights_P.max():#.2g}", left + width / 2, top + height + 0.03, 7, ha="center", va="top")

    def get_rgb_pixels(self) -> np.ndarray:
        """Return the image as HW3 bytes."""
        pixels_HW3 = np.broadcast_to(self.pixels_HWC, (*self.pixels_HWC.shape[:2], 3))
        return np.asarray((np.clip(pixels_HW3, 0, 1) * 255).round(), dtype=np.uint8)

    def compute_heatmap(self, weights_P: np.ndarray) -> np.ndarray:
        """Return a heatmap of `weights_P`, scaled to its maximum, over the gray image, as HW3 bytes.

        Each patch is one flat rectangle (nearest upsampling), because a smooth map would show more detail than there
        is.
        """
        height, width = self.pixels_HWC.shape[:2]
        rows, columns = self.grid
        share_RC = weights_P.reshape(rows, columns).astype(np.float64) / (weights_P.max() or 1.0)
        share_HW = share_RC[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
        return _blend_heatmap(
            self.get_rgb_pixels() @ np.array([0.299, 0.587, 0.114]) / 255, share_HW
        )  # luma of ITU-R BT.601


@dataclass(frozen=True)
class AttentionOverview:
    """Figure of several examples, one row each: image, rollout, and the mean over heads of each layer.

    Raises:
        ValueError: unless all images have one shape and all attentions the same number of layers.
    """

    name: str
    maps: list[PatchAttention]

    def __post_init__(self) -> None:
        kinds = {(one.size, len(one.weights_LHP)) for one in self.maps}
        if len(kinds) != 1:
            raise ValueError(f"{self.name}: pictures of {len(kinds)} shapes and depths, expected one of both")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return no arrays: the examples are figures of their own."""
        return {}

    def save(self, path: Path) -> None:
        """Write a PNG with labeled columns; row labels show the true and the predicted class."""
        width, height = (_SMALL_TILE * part for part in self.maps[0].size)
        across, down = width + _GAP, height + _NOTED_GAP
        page = Canvas()
        names = ["picture", "rollout", *(f"layer {layer + 1}" for layer in range(len(self.maps[0].weights_LHP)))]
        for column, name in enumerate(names):
            page.draw_text(name, column * across + width / 2, -0.05, 8, ha="center", va="bottom")
        for row, one in enumerate(self.maps):
            one.draw_title(page, 18, left=-0.1, top=row * down + height / 2, size=8, ha="right", va="center")
            page.draw_image(one.get_rgb_pixels(), 0, row * down, width, height)
            for column, weights_P in enumerate((one.rollout_P, *one.weights_LHP.mean(1)), start=1):
                one.draw_heatmap(page, weights_P, column * across, row * down, _SMALL_TILE)
        _draw_legend(page, 0, len(self.maps) * down + 0.1)
        page.save(path)


@dataclass(frozen=True)
class PositionSimilarity:
    """Figure of the cosine similarity of any two position vectors (Dosovitskiy et al. 2021, figure 7, center).

    Raises:
        ValueError: if the similarities do not fill the grid.
    """

    name: str
    similarity_PP: np.ndarray  # cosine, -1 to 1
    grid: Grid

    def __post_init__(self) -> None:
        patches, why = prod(self.grid), f"{self.grid[0]} x {self.grid[1]} patches"
        check_shape(f"{self.name}: similarity", self.similarity_PP, (patches, patches), why)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the similarities and the grid."""
        return {"similarity": self.similarity_PP, "grid": np.array(self.grid)}

    def save(self, path: Path) -> None:
        """Write a PNG: one tile for each position, with its similarity to every position."""
        rows, columns = self.grid
        gap = ceil(max(self.grid) / 8)
        tiles_RCRC = self.similarity_PP.astype(np.float64).reshape(rows, columns, rows, columns)
        padded_RCRC = np.pad(tiles_RCRC, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
        sheet = padded_RCRC.swapaxes(1, 2).reshape(rows * (rows + gap), -1)[:-gap, :-gap]
        scale = 4.6 / max(sheet.shape)
        figure, axes = create_single_axes(scale * sheet.shape[1], scale * sheet.shape[0])
        image = axes.imshow(sheet, cmap=_SIMILARITY_COLORS, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
        for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
            shown = range(0, count, ceil(count / 20))
            centers = [place * (count + gap) + (count - 1) / 2 for place in shown]
            axis.set_ticks(centers, [str(place + 1) for place in shown], fontsize=7)
        axes.set_xlabel("input patch column", fontsize=8)
        axes.set_ylabel("input patch row", fontsize=8)
        draw_colorbar(figure, image, "cosine similarity", [-1, -0.5, 0, 0.5, 1])
        save_figure(figure, path)


@dataclass(frozen=True)
class ConfusionMatrix:
    """Figure of the confusion matrix.

    Raises:
        ValueError: unless there is one row and one column for each class.
    """

    name: str
    counts_KK: np.ndarray  # row: true class, column: predicted class
    classes: list[str]

    def __post_init__(self) -> None:
        count = len(self.classes)
        check_shape(f"{self.name}: counts", self.counts_KK, (count, count), f"{count} classes")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the counts and the class names."""
        return {"counts": self.counts_KK, "classes": np.array(self.classes, dtype=np.str_)}

    def save(self, path: Path) -> None:
        """Write a PNG: color by the share of a row, percentages in the cells, and counts if there is space.

        The color scale is the square root of the share: confusions are a few percent, and invisible on a linear
        scale.
        """
        from matplotlib.colors import PowerNorm
        from matplotlib.ticker import PercentFormatter

        count, right, total = len(self.classes), int(np.trace(self.counts_KK)), int(self.counts_KK.sum())
        share_KK = self.counts_KK / np.maximum(self.counts_KK.sum(1, keepdims=True), 1)
        cell = (
            0.46
            if count <= _MAX_CLASSES_WITH_COUNTS
            else 0.3
            if count <= _MAX_CLASSES_WITH_PERCENTAGES
            else min(0.16, 14 / count)
        )
        figure, axes = create_single_axes(max(count * cell, 2.4), max(count * cell, 2.4))
        image = axes.imshow(
            share_KK, cmap=_SHARE_COLORS, norm=PowerNorm(0.5, 0, 1), interpolation="nearest", aspect="auto"
        )
        names = [name if len(name) <= 32 else f"{name[:31]}…" for name in self.classes]
        shown = range(0, count, ceil(0.12 / cell))  # as many labels as fit
        for axis, rotation in ((axes.xaxis, 90), (axes.yaxis, 0)):
            axis.set_ticks(shown, [names[i] for i in shown], rotation=rotation, fontsize=7, parse_math=False)
        axes.set_xlabel("predicted", fontsize=9)
        axes.set_ylabel("true", fontsize=9)
        axes.set_title(f"{right:,} of {total:,} right ({right / max(total, 1):.1%})", fontsize=9)
        if count <= _MAX_CLASSES_WITH_PERCENTAGES:
            self._write_numbers(axes, share_KK)
        bar = draw_colorbar(figure, image, "share of the true class", [0, 0.01, 0.05, 0.1, 0.2, 0.5, 1])
        bar.yaxis.set_major_formatter(PercentFormatter(1))
        save_figure(figure, path)

    def _write_numbers(self, axes: Axes, share_KK: np.ndarray) -> None:
        """Write the numbers in each cell that is not empty."""
        for row, column in np.argwhere(self.counts_KK):
            share, times = share_KK[row, column], self.counts_KK[row, column]
            rounded = "<1%" if share < 0.005 else f"{share:.0%}"
            words = rounded if len(self.classes) > _MAX_CLASSES_WITH_COUNTS else f"{share:.1%}\n{times:,}"
            color = "white" if share > 0.2 else "black"
            axes.text(column, row, words, ha="center", va="center", fontsize=6, color=color)


def _blend_heatmap(gray_HW: np.ndarray, share_HW: np.ndarray) -> np.ndarray:
    """Blend a heatmap over a gray image (both 0 to 1): more opaque where the heat is larger. Returns HW3 bytes."""
    from matplotlib import colormaps

    dense_HW1 = 0.2 + 0.65 * share_HW[..., None]
    colors_HW3 = dense_HW1 * colormaps[_HEATMAP_COLORS](share_HW)[..., :3] + (1 - dense_HW1) * (
        0.1 + 0.45 * gray_HW[..., None]
    )
    return np.asarray((colors_HW3 * 255).round(), dtype=np.uint8)


def _draw_legend(page: Canvas, left: float, top: float) -> None:
    """Draw the legend of the heatmap colors over medium gray."""
    page.draw_image(_blend_heatmap(np.full((1, 128), 0.5), np.linspace(0, 1, 128)[None]), left, top, _LARGE_TILE, 0.1)
    page.draw_text("0", left, top + 0.13, 7, va="top")
    page.draw_text("maximum", left + _LARGE_TILE, top + 0.13, 7, ha="right", va="top")
    page.draw_text(fill(_NOTE, 40), left, top + 0.34, 7, va="top")
