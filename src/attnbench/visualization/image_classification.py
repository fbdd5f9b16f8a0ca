"""Pictures of image classification: what a model looks at, what it knows of places, what it confuses."""

# Shapes: H height and W width in pixels, C colour channels or 3 (red, green, blue);
#         L layers, H heads, P patches, T tokens (patches, and perhaps a classifying one), K classes

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from attnbench.visualization.canvas import Page, check_shape, draw_bar, one_axes, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Grid = tuple[int, int]  # rows and columns of patches

# Perceptual maps, whose lightness alone says how much: they survive grey print and colour blindness.
_HEAT, _SIMILARITY, _SHARE = "magma", "viridis", "magma_r"
_WRONG = "#a50f15"
_NOTE = "Attention to each patch. Every tile is scaled to its own maximum, which is printed below it."
_LARGE, _SMALL, _GAP, _NOTED_GAP = 2.2, 1.1, 0.07, 0.22  # inches: sides of tiles; between them, and with a number there
_TILES = _LARGE + 0.8  # inches from the left to the tiles of layers and heads
_COUNTS, _PER_CENTS = 12, 30  # classes up to which a cell has room for counts, and for numbers at all


def rollout(weights_LHTT: np.ndarray) -> np.ndarray:
    """How much of each input token (column) reaches each output token (row): TT, whose rows sum to one.

    Attention rollout: Abnar & Zuidema 2020, section 3, equation 1. Heads are averaged, half of each layer is its
    residual connection, and the layers are multiplied up from the first, which is `weights_LHTT[0]`.
    """
    identity_TT = np.eye(weights_LHTT.shape[-1])
    found_TT = identity_TT
    for weights_HTT in weights_LHTT:
        mixed_TT = 0.5 * weights_HTT.mean(0, dtype=np.float64) + 0.5 * identity_TT
        found_TT = mixed_TT / mixed_TT.sum(-1, keepdims=True) @ found_TT
    return found_TT


@dataclass(frozen=True)
class PatchAttention:
    """What the classification of one example attends to, by layer and head; a Picture.

    `weights_LHP` is how much the classifying token, or all patches on average, attend to each patch. It may sum to
    less than one: the classifying token attends to itself, too. Raises ValueError if the parts do not fit each other.
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
        """Width and height, of which the longer is 1."""
        height, width = self.pixels_HWC.shape[:2]
        return width / max(height, width), height / max(height, width)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, under the names of the fields less their shapes."""
        return {name.split("_")[0]: np.array(value) for name, value in vars(self).items() if name != "name"}

    @classmethod
    def of_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> PatchAttention:
        """The picture whose `arrays` these are."""
        rows, columns = arrays["grid"].tolist()
        said = (arrays[key].item() for key in ("label", "predicted", "confidence"))
        return cls(name, arrays["pixels"], arrays["weights"], arrays["rollout"], (rows, columns), *said)

    def draw(self, path: Path) -> None:
        """Left the picture and under it the rollout; right a row a layer, a column a head."""
        page = Page()
        self.draw_on(page)
        page.save(path)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height in inches of all tiles and what stands beside them, less the words above."""
        layers, heads = self.weights_LHP.shape[:2]
        _, (across, down), bottom = self._places()
        return _TILES + heads * across, max(layers * down, bottom + 1.0)

    def draw_on(self, page: Page) -> None:
        """Draw at the page's origin."""
        layers, heads = self.weights_LHP.shape[:2]
        width, height = self.size
        side, (across, down), bottom = self._places()
        middle = bottom - _LARGE * height
        self.draw_title(page, 30, left=0, top=-0.05, size=9, va="bottom")
        page.image(self.colours(), 0, 0, _LARGE * width, _LARGE * height)
        page.text("rollout", 0, middle - 0.05, 9, va="bottom")
        self.draw_heat(page, self.rollout_P, 0, middle, _LARGE)
        _draw_legend(page, 0, bottom + 0.3)
        for head in range(heads):
            x = _TILES + head * across + side * width / 2
            page.text(f"head {head + 1}", x, -0.05, 8, ha="center", va="bottom")
        for layer in range(layers):
            y = layer * down
            page.text(f"layer {layer + 1}", _TILES - 0.08, y + side * height / 2, 8, ha="right", va="center")
            for head in range(heads):
                self.draw_heat(page, self.weights_LHP[layer, head], _TILES + head * across, y, side)

    def _places(self) -> tuple[float, tuple[float, float], float]:
        """In inches: the longer side of a tile, how far tiles are apart, and where the rollout ends."""
        width, height = self.size
        bottom = 2 * _LARGE * height + 0.35
        # As high as what is on the left.
        side = float(np.clip((bottom / len(self.weights_LHP) - _NOTED_GAP) / height, 0.9, 1.8))
        return side, (side * width + _GAP, side * height + _NOTED_GAP), bottom

    def draw_title(self, page: Page, columns: int, **style: Any) -> None:
        """The label; where it was taken for another, that too, in words and for those who see it in red."""
        title, colour = self.label, "black"
        if self.predicted != self.label:
            title, colour = f"{self.label}, taken for {self.predicted} ({self.confidence:.2f})", _WRONG
        page.text(fill(title, columns), color=colour, **style)

    def draw_heat(self, page: Page, weights_P: np.ndarray, left: float, top: float, side: float) -> None:
        """A heat map over the picture, its longer side `side` inches, and below it the maximum."""
        width, height = (side * part for part in self.size)
        page.image(self.heat(weights_P), left, top, width, height)
        page.text(f"{weights_P.max():#.2g}", left + width / 2, top + height + 0.03, 7, ha="center", va="top")

    def colours(self) -> np.ndarray:
        """The picture itself, as HW3 bytes."""
        pixels_HW3 = np.broadcast_to(self.pixels_HWC, (*self.pixels_HWC.shape[:2], 3))
        return np.asarray((np.clip(pixels_HW3, 0, 1) * 255).round(), dtype=np.uint8)

    def heat(self, weights_P: np.ndarray) -> np.ndarray:
        """A heat map of `weights_P`, scaled to its own maximum, over the picture in grey, as HW3 bytes.

        Each patch is one flat rectangle (nearest upsampling): a smoother map would claim to know more than it does.
        """
        height, width = self.pixels_HWC.shape[:2]
        rows, columns = self.grid
        share_RC = weights_P.reshape(rows, columns).astype(np.float64) / (weights_P.max() or 1.0)
        share_HW = share_RC[np.arange(height) * rows // height][:, np.arange(width) * columns // width]
        return _blend(self.colours() @ np.array([0.299, 0.587, 0.114]) / 255, share_HW)  # luma of ITU-R BT.601


@dataclass(frozen=True)
class AttentionOverview:
    """Several examples on a page, a row each: the picture, the rollout, each layer's mean over heads; a Picture.

    Raises ValueError unless the pictures are of one shape and their attention of as many layers.
    """

    name: str
    maps: list[PatchAttention]

    def __post_init__(self) -> None:
        kinds = {(one.size, len(one.weights_LHP)) for one in self.maps}
        if len(kinds) != 1:
            raise ValueError(f"{self.name}: pictures of {len(kinds)} shapes and depths, expected one of both")

    def arrays(self) -> dict[str, np.ndarray]:
        """None: the parts are pictures of their own."""
        return {}

    def draw(self, path: Path) -> None:
        """Labelled columns, and rows that say what the example is and was taken for."""
        width, height = (_SMALL * part for part in self.maps[0].size)
        across, down = width + _GAP, height + _NOTED_GAP
        page = Page()
        names = ["picture", "rollout", *(f"layer {layer + 1}" for layer in range(len(self.maps[0].weights_LHP)))]
        for column, name in enumerate(names):
            page.text(name, column * across + width / 2, -0.05, 8, ha="center", va="bottom")
        for row, one in enumerate(self.maps):
            one.draw_title(page, 18, left=-0.1, top=row * down + height / 2, size=8, ha="right", va="center")
            page.image(one.colours(), 0, row * down, width, height)
            for column, weights_P in enumerate((one.rollout_P, *one.weights_LHP.mean(1)), start=1):
                one.draw_heat(page, weights_P, column * across, row * down, _SMALL)
        _draw_legend(page, 0, len(self.maps) * down + 0.1)
        page.save(path)


@dataclass(frozen=True)
class PositionSimilarity:
    """How alike the vectors of any two positions are; a Picture.

    After Dosovitskiy et al. 2021, figure 7, centre. Raises ValueError if the similarities do not fill the grid.
    """

    name: str
    similarity_PP: np.ndarray  # cosine, -1 to 1
    grid: Grid

    def __post_init__(self) -> None:
        patches, why = prod(self.grid), f"{self.grid[0]} x {self.grid[1]} patches"
        check_shape(f"{self.name}: similarity", self.similarity_PP, (patches, patches), why)

    def arrays(self) -> dict[str, np.ndarray]:
        """Both."""
        return {"similarity": self.similarity_PP, "grid": np.array(self.grid)}

    def draw(self, path: Path) -> None:
        """A tile a position, at its place, with its similarity to every position."""
        rows, columns = self.grid
        gap = ceil(max(self.grid) / 8)
        tiles_RCRC = self.similarity_PP.astype(np.float64).reshape(rows, columns, rows, columns)
        padded_RCRC = np.pad(tiles_RCRC, ((0, 0), (0, 0), (0, gap), (0, gap)), constant_values=np.nan)
        sheet = padded_RCRC.swapaxes(1, 2).reshape(rows * (rows + gap), -1)[:-gap, :-gap]
        scale = 4.6 / max(sheet.shape)
        figure, axes = one_axes(scale * sheet.shape[1], scale * sheet.shape[0])
        image = axes.imshow(sheet, cmap=_SIMILARITY, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
        for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
            shown = range(0, count, ceil(count / 20))
            centres = [place * (count + gap) + (count - 1) / 2 for place in shown]
            axis.set_ticks(centres, [str(place + 1) for place in shown], fontsize=7)
        axes.set_xlabel("input patch column", fontsize=8)
        axes.set_ylabel("input patch row", fontsize=8)
        draw_bar(figure, image, "cosine similarity", [-1, -0.5, 0, 0.5, 1])
        save_figure(figure, path)


@dataclass(frozen=True)
class ConfusionMatrix:
    """What was taken for what; a Picture. Raises ValueError unless there is a row and a column a class."""

    name: str
    counts_KK: np.ndarray  # row: what it is, column: what it was taken for
    classes: list[str]

    def __post_init__(self) -> None:
        count = len(self.classes)
        check_shape(f"{self.name}: counts", self.counts_KK, (count, count), f"{count} classes")

    def arrays(self) -> dict[str, np.ndarray]:
        """Both."""
        return {"counts": self.counts_KK, "classes": np.array(self.classes, dtype=np.str_)}

    def draw(self, path: Path) -> None:
        """Colour by the share of a row; in the cells per cent of the row, and counts where there is room.

        The scale is that of the square root: what is confused is a few per cent, and would be lost on a linear one.
        """
        from matplotlib.colors import PowerNorm
        from matplotlib.ticker import PercentFormatter

        count, right, total = len(self.classes), int(np.trace(self.counts_KK)), int(self.counts_KK.sum())
        share_KK = self.counts_KK / np.maximum(self.counts_KK.sum(1, keepdims=True), 1)
        cell = 0.46 if count <= _COUNTS else 0.3 if count <= _PER_CENTS else min(0.16, 14 / count)
        figure, axes = one_axes(max(count * cell, 2.4), max(count * cell, 2.4))
        image = axes.imshow(share_KK, cmap=_SHARE, norm=PowerNorm(0.5, 0, 1), interpolation="nearest", aspect="auto")
        names = [name if len(name) <= 32 else f"{name[:31]}…" for name in self.classes]
        shown = range(0, count, ceil(0.12 / cell))  # as many as have room
        for axis, rotation in ((axes.xaxis, 90), (axes.yaxis, 0)):
            axis.set_ticks(shown, [names[i] for i in shown], rotation=rotation, fontsize=7, parse_math=False)
        axes.set_xlabel("predicted", fontsize=9)
        axes.set_ylabel("true", fontsize=9)
        axes.set_title(f"{right:,} of {total:,} right ({right / max(total, 1):.1%})", fontsize=9)
        if count <= _PER_CENTS:
            self._write_numbers(axes, share_KK)
        bar = draw_bar(figure, image, "share of the true class", [0, 0.01, 0.05, 0.1, 0.2, 0.5, 1])
        bar.yaxis.set_major_formatter(PercentFormatter(1))
        save_figure(figure, path)

    def _write_numbers(self, axes: Axes, share_KK: np.ndarray) -> None:
        """In each cell that is not empty, for the eye that wants more than colour."""
        for row, column in np.argwhere(self.counts_KK):
            share, times = share_KK[row, column], self.counts_KK[row, column]
            rounded = "<1%" if share < 0.005 else f"{share:.0%}"
            words = rounded if len(self.classes) > _COUNTS else f"{share:.1%}\n{times:,}"
            colour = "white" if share > 0.2 else "black"
            axes.text(column, row, words, ha="center", va="center", fontsize=6, color=colour)


def _blend(grey_HW: np.ndarray, share_HW: np.ndarray) -> np.ndarray:
    """Heat over grey, both 0 to 1, as HW3 bytes: denser where it is hotter, and the grey darkened: light means hot."""
    from matplotlib import colormaps

    dense_HW1 = 0.2 + 0.65 * share_HW[..., None]
    colours_HW3 = dense_HW1 * colormaps[_HEAT](share_HW)[..., :3] + (1 - dense_HW1) * (0.1 + 0.45 * grey_HW[..., None])
    return np.asarray((colours_HW3 * 255).round(), dtype=np.uint8)


def _draw_legend(page: Page, left: float, top: float) -> None:
    """What the colours of heat maps mean: over middle grey, as over the picture."""
    page.image(_blend(np.full((1, 128), 0.5), np.linspace(0, 1, 128)[None]), left, top, _LARGE, 0.1)
    page.text("0", left, top + 0.13, 7, va="top")
    page.text("maximum", left + _LARGE, top + 0.13, 7, ha="right", va="top")
    page.text(fill(_NOTE, 40), left, top + 0.34, 7, va="top")
