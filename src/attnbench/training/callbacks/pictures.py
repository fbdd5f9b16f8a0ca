"""Callback that writes a module's figures to files and to the tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as pl

from attnbench.tasks.results import Figure


@runtime_checkable
class HasFigures(Protocol):
    """Interface of LightningModules with figures."""

    def build_figures(self, examples: int) -> Sequence[Figure]:
        """Build figures of the first `examples` validation examples, and of the last evaluation."""
        ...


class FigureCallback(pl.Callback):
    """Writes a module's figures into `folder` after the test, and after every `every` validations if that is set.

    The folder holds `<name>.png` for each figure, and `arrays.npz` with the arrays of all figures as
    `<name>.<array>`.
    """

    def __init__(self, folder: Path, examples: int, every: int | None) -> None:
        self.folder = folder
        self.examples = examples
        self.every = every
        self._validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw now and then, so that one can see something form."""
        if trainer.state.fn != "fit" or self.every is None:
            return
        self._validations += 1
        if self._validations % self.every == 0:
            self.write_figures(trainer, pl_module, f"update-{trainer.global_step:07d}")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the weights that were tested."""
        self.write_figures(trainer, pl_module, "final")

    def write_figures(self, trainer: pl.Trainer, pl_module: pl.LightningModule, name: str) -> None:
        """Write arrays and pictures to folder/name, and the pictures to the tracker."""
        if not trainer.is_global_zero or not isinstance(pl_module, HasFigures):
            return
        pictures = pl_module.build_figures(self.examples)
        if not pictures:
            return
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, np.ndarray] = {}
        for picture in pictures:
            picture.save(folder / f"{picture.name}.png")
            arrays |= {f"{picture.name}.{key}": array for key, array in picture.to_arrays().items()}
        np.savez_compressed(folder / "arrays.npz", allow_pickle=False, **arrays)
        self._log_figures(trainer, {picture.name: folder / f"{picture.name}.png" for picture in pictures})

    def _log_figures(self, trainer: pl.Trainer, paths: dict[str, Path]) -> None:
        from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

        for logger in trainer.loggers:
            for name, path in paths.items():
                key = f"pictures/{name}"
                if isinstance(logger, WandbLogger):
                    logger.log_image(key=key, images=[str(path)])
                elif isinstance(logger, TensorBoardLogger):
                    from matplotlib.image import imread

                    image = imread(path)[..., :3]
                    logger.experiment.add_image(key, image, trainer.global_step, dataformats="HWC")
