"""Figure of attention between tokens: every layer and head for one example."""

# Shapes: L layers, H heads, Q queries, K keys

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnbench.visualization.canvas import create_single_axes, draw_colorbar, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

COLORBAR_LABEL = "attention weight"  # range of the colors
_GAP = 1  # cells between two tiles


@dataclass(frozen=True)
class AttentionMap:
    """Figure of the attention weights of every layer and head for one example."""

    name: str  # which attention, and the example's number: "encoder-0", "cross-3"
    weights_LHQK: np.ndarray  # each row sums to one, or to less within a local window
    queries: list[str]
    keys: list[str]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return `weights` and the tokens of `queries` and `keys`."""
        return {
            "weights": self.weights_LHQK,
            "queries": np.array(self.queries, dtype=np.str_),
            "keys": np.array(self.keys, dtype=np.str_),
        }

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> AttentionMap:
        """Build the figure from the result of `to_arrays`.

        Args:
            name: name of the figure.
            arrays: arrays by name.
        """
        return cls(name, arrays["weights"], arrays["queries"].tolist(), arrays["keys"].tolist())

    @property
    def grid_size(self) -> tuple[int, int]:
        """Number of columns and rows of cells, with the gaps between tiles."""
        layers, heads, rows, columns = self.weights_LHQK.shape
        return heads * (columns + _GAP) - _GAP, layers * (rows + _GAP) - _GAP

    def save(self, path: Path) -> None:
        """Write a PNG: one row for each layer, one column for each head, tokens on the outer axes."""
        figure, axes = create_single_axes(*(0.16 * count for count in self.grid_size), dpi=110)
        image = self.draw_on(axes, f"{self.name.rsplit('-', 1)[0]} attention")
        draw_colorbar(figure, image, COLORBAR_LABEL, [0, 0.5, 1], padding=0.35)  # position of the layers' names
        save_figure(figure, path)

    def draw_on(self, axes: Axes, title: str, font_size: float = 6) -> AxesImage:
        """Draw into existing axes.

        All heads are tiles of one image: one axes with ticks is many times faster than one axes for each head.

        Args:
            axes: matplotlib axes.
            title: title of the axes.
            font_size: size of the tokens in points.
        """
        layers, heads, rows, columns = self.weights_LHQK.shape
        sheet = np.full(self.grid_size[::-1], np.nan)
        for layer in range(layers):
            for head in range(heads):
                top, left = layer * (rows + _GAP), head * (columns + _GAP)
                sheet[top : top + rows, left : left + columns] = self.weights_LHQK[layer, head]
        image = axes.imshow(sheet, cmap="viridis", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
        self._draw_labels(axes, font_size)
        axes.set_title(title, fontsize=9, pad=20, parse_math=False)
        return image

    def _draw_labels(self, axes: Axes, font_size: float) -> None:
        layers, heads, rows, columns = self.weights_LHQK.shape
        # Tokens may contain dollar signs, which are not formulas.
        axes.set_xticks([h * (columns + _GAP) + k for h in range(heads) for k in range(columns)])
        axes.set_xticklabels(self.keys * heads, rotation=90, fontsize=font_size, parse_math=False)
        axes.set_yticks([layer * (rows + _GAP) + q for layer in range(layers) for q in range(rows)])
        axes.set_yticklabels(self.queries * layers, fontsize=font_size, parse_math=False)
        axes.tick_params(length=0, pad=1)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        for head in range(heads):
            center = head * (columns + _GAP) + (columns - 1) / 2
            axes.text(center, -1.0, f"head {head + 1}", ha="center", va="bottom", fontsize=7)
        for layer in range(layers):
            center = layer * (rows + _GAP) + (rows - 1) / 2
            right = heads * (columns + _GAP) - _GAP
            axes.text(right, center, f"layer {layer + 1}", rotation=270, ha="left", va="center", fontsize=7)
        axes.set_xlabel("key", fontsize=8)
        axes.set_ylabel("query", fontsize=8)
