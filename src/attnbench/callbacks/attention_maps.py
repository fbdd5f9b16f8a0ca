"""Attention maps of a fixed probe: arrays, pictures, and images in the tracker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl


@dataclass(frozen=True)
class AttentionMap:
    """The attention of every layer and head over one example."""

    name: str  # "encoder", "decoder", "cross"
    weights_LHQK: np.ndarray  # layers, heads, queries, keys; each row sums to one
    queries: list[str]
    keys: list[str]


@runtime_checkable
class HasAttention(Protocol):
    """What a LightningModule offers to have its attention drawn."""

    def attention_maps(self, examples: int) -> list[list[AttentionMap]]:
        """For each of the first `examples` validation examples, its maps."""
        ...


def draw(maps: AttentionMap, path: Path) -> None:
    """Write a picture: a row a layer, a column a head, tokens on the outer axes.

    All heads are tiles of one image: one axes with ticks at each tile draws many times faster than one a head.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layers, heads, rows, columns = maps.weights_LHQK.shape
    gap = 1
    sheet = np.full((layers * (rows + gap) - gap, heads * (columns + gap) - gap), np.nan)
    for layer in range(layers):
        for head in range(heads):
            top, left = layer * (rows + gap), head * (columns + gap)
            sheet[top : top + rows, left : left + columns] = maps.weights_LHQK[layer, head]
    cell = 0.16
    figure = Figure(figsize=(2.2 + cell * sheet.shape[1], 1.8 + cell * sheet.shape[0]), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(sheet, cmap="viridis", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    _label(axes, maps, gap)
    figure.colorbar(image, ax=axes, label="attention weight", shrink=0.6, pad=0.02)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _label(axes: Any, maps: AttentionMap, gap: int) -> None:
    layers, heads, rows, columns = maps.weights_LHQK.shape
    axes.set_xticks([h * (columns + gap) + k for h in range(heads) for k in range(columns)])
    axes.set_xticklabels(maps.keys * heads, rotation=90, fontsize=6)
    axes.set_yticks([layer * (rows + gap) + q for layer in range(layers) for q in range(rows)])
    axes.set_yticklabels(maps.queries * layers, fontsize=6)
    axes.tick_params(length=0, pad=1)
    axes.spines[:].set_visible(False)
    for head in range(heads):
        centre = head * (columns + gap) + (columns - 1) / 2
        axes.text(centre, -1.0, f"head {head + 1}", ha="center", va="bottom", fontsize=7)
    for layer in range(layers):
        centre = layer * (rows + gap) + (rows - 1) / 2
        right = heads * (columns + gap) - gap
        axes.text(right, centre, f"layer {layer + 1}", rotation=270, ha="left", va="center", fontsize=7)
    axes.set_xlabel("key", fontsize=8)
    axes.set_ylabel("query", fontsize=8)
    axes.set_title(f"{maps.name} attention", fontsize=9, pad=20)


class AttentionMaps(pl.Callback):
    """Draws the probe into `folder`: at the end of training, and every `every` validations if that is set."""

    def __init__(self, folder: Path, examples: int, every: int | None) -> None:
        self.folder = folder
        self.examples = examples
        self.every = every
        self._validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw now and then, so that one can see attention form."""
        if trainer.state.fn != "fit" or self.every is None:
            return
        self._validations += 1
        if self._validations % self.every == 0:
            self.write(trainer, pl_module, f"update-{trainer.global_step:07d}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the weights that were tested."""
        self.write(trainer, pl_module, "final")

    def write(self, trainer: pl.Trainer, pl_module: pl.LightningModule, name: str) -> None:
        """Write arrays and pictures to folder/name, and the pictures to the tracker."""
        if not trainer.is_global_zero or not isinstance(pl_module, HasAttention):
            return
        pictures: list[Path] = []
        arrays: dict[str, np.ndarray] = {}
        for number, example in enumerate(pl_module.attention_maps(self.examples)):
            for maps in example:
                path = self.folder / name / f"{maps.name}-{number}.png"
                draw(maps, path)
                pictures.append(path)
                stem = f"{number}.{maps.name}"
                arrays[f"{stem}.weights"] = maps.weights_LHQK
                arrays[f"{stem}.queries"] = np.array(maps.queries)
                arrays[f"{stem}.keys"] = np.array(maps.keys)
        np.savez_compressed(self.folder / name / "attention.npz", allow_pickle=False, **arrays)
        self._track(trainer, pictures)

    def _track(self, trainer: pl.Trainer, pictures: list[Path]) -> None:
        from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

        for logger in trainer.loggers:
            for path in pictures:
                key = f"attention/{path.stem}"
                if isinstance(logger, WandbLogger):
                    logger.log_image(key=key, images=[str(path)])
                elif isinstance(logger, TensorBoardLogger):
                    from matplotlib.image import imread

                    image = imread(path)[..., :3]
                    logger.experiment.add_image(key, image, trainer.global_step, dataformats="HWC")
