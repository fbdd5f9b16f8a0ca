"""Writes history.jsonl, independent of the tracker: logged training metrics, and each validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from attnbench.records.history import HISTORY_FILE, append_entry, truncate_after_update
from attnbench.training.callbacks.performance import Performance
from attnbench.training.callbacks.run_record import RecordCallback


class HistoryCallback(pl.Callback):
    """Appends metrics under train/ every `every` updates, and metrics under val/ at each validation.

    Apart from `seconds` no entry depends on the clock, so that a resumed run has the same lines as an uninterrupted
    one. A line is written before the checkpoint of its update.
    """

    def __init__(self, folder: Path, every: int, run_record: RecordCallback, performance: Performance) -> None:
        self.folder = folder
        self.every = every
        self.run_record = run_record
        self.performance = performance
        self._update = 0
        self._units = 0
        self._lines: int | None = 0  # lines written so far; None: the checkpoint has no number

    def state_dict(self) -> dict[str, Any]:
        """Return the counters that a resumed run needs."""
        return {"units": self._units, "lines": self._lines}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counters."""
        self._units, self._lines = state_dict["units"], state_dict.get("lines")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take out what a session before this one did beyond its last checkpoint; note in the record what is lost."""
        self._update = trainer.global_step
        if not trainer.is_global_zero:
            return
        left = truncate_after_update(self.folder / HISTORY_FILE, self._update)
        if self._lines is not None and left < self._lines:
            lost = f"{HISTORY_FILE}: {self._lines - left} of {self._lines} lines were lost before this run went on"
            self.run_record.record.notes.append(lost)
        self._lines = left

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count an update's units, of which each of its shares knows; now and then, keep what was logged."""
        if trainer.global_step == self._update:
            return  # in the middle of an update
        self._update = trainer.global_step
        self._units += int(batch.num_update_units)
        if self._update % self.every == 0:
            self._append_entry(trainer, "train/")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what validation found."""
        if trainer.state.fn == "fit":
            self._append_entry(trainer, "val/")

    def _append_entry(self, trainer: pl.Trainer, stage: str) -> None:
        metrics = {key: float(value) for key, value in trainer.logged_metrics.items() if key.startswith(stage)}
        if not trainer.is_global_zero:
            return
        entry: dict[str, float] = {
            "update": self._update,
            "epoch": trainer.current_epoch + 1,
            "seconds": round(self.run_record.train_seconds, 3),
            "units": self._units,
        }
        if self.performance.flops_per_unit is not None:
            entry["flops"] = self._units * self.performance.flops_per_unit
        append_entry(self.folder, entry | metrics)
        self._lines = (self._lines or 0) + 1
