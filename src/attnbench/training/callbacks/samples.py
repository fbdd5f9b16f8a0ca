"""Table of sample outputs at each validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytorch_lightning as pl

from attnbench.records.history import read_lines, truncate_after_update
from attnbench.tasks.results import Sample


@runtime_checkable
class HasOutputs(Protocol):
    """Interface of LightningModules with the outputs of the last evaluation, in corpus order."""

    outputs: Sequence[Sample]


class SampleCallback(pl.Callback):
    """Appends the first `count` outputs of each validation to samples.jsonl and to the tracker's table."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self._file = folder / "samples.jsonl"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove samples that an earlier session wrote after its last checkpoint."""
        if trainer.is_global_zero:
            truncate_after_update(self._file, trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the first few."""
        if trainer.state.fn != "fit" or not trainer.is_global_zero or not isinstance(pl_module, HasOutputs):
            return
        chosen = pl_module.outputs[: self.count]
        with self._file.open("a", encoding="utf-8") as file:
            for sample in chosen:
                file.write(json.dumps({"update": trainer.global_step, **asdict(sample)}, ensure_ascii=False) + "\n")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send the table to the tracker."""
        if not trainer.is_global_zero or not isinstance(pl_module, HasOutputs):
            return
        from pytorch_lightning.loggers import WandbLogger

        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and (rows := read_lines(self._file)):
                logger.log_table("samples", columns=list(rows[0]), data=[list(one.values()) for one in rows])
