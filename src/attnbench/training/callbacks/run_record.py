"""Keeps run.json up to date during a run, and writes its progress."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import Any, Protocol, cast

import pytorch_lightning as pl

from attnbench.records.record import Record, write_progress, write_record
from attnbench.tasks.results import TestResult
from attnbench.training.callbacks.performance import Performance

_PROGRESS_SECONDS = 2.0  # seconds between two writes of the progress file


class HasResults(Protocol):
    """Interface of LightningModules with a report, test results and a monitored metric."""

    report: dict[str, Any]
    test_results: list[TestResult]
    monitor: str
    monitor_mode: str


class RecordCallback(pl.Callback):
    """Writes metrics and performance into the record after each validation and at the end.

    `metrics.final` is the last validation, `metrics.best` the one with the best monitored metric, `metrics.test` the
    test set; further test sets have their own names. The time of earlier sessions is stored in the checkpoint.
    """

    def __init__(self, record: Record, folder: Path, performance: Performance) -> None:
        self.record = record
        self.folder = folder
        self.performance = performance
        self._best: dict[str, Any] = {}
        self._best_value: float | None = None  # the trainer's value, which selects the weights
        self._before = 0.0
        self._started: float | None = None
        self._steps: int | None = None  # updates of the whole training, if known
        self._told = -math.inf

    @property
    def train_seconds(self) -> float:
        """Seconds of training and validation in all sessions of this run."""
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)

    def state_dict(self) -> dict[str, Any]:
        """Return the times and metrics that a resumed run needs."""
        return {
            "train_seconds": self.train_seconds,
            "final": self.record.metrics["final"],
            "best": self._best,
            "best_value": self._best_value,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore times and metrics."""
        self._before, self._best = state_dict["train_seconds"], state_dict["best"]
        self._best_value = state_dict.get("best_value")
        self.record.metrics |= {"final": state_dict["final"], "best": self._best}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()
        steps = trainer.estimated_stepping_batches
        self._steps = int(steps) if math.isfinite(steps) else None
        self._write_progress(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the progress of training."""
        self._write_progress(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the progress again, which shows that the run is alive."""
        self._write_progress(trainer)

    on_test_batch_end = on_validation_batch_end

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._before, self._started = self.train_seconds, None
        self.record.performance = self.performance.summarize(trainer, pl_module)
        self.record.notes += [note for note in self.performance.notes if note not in self.record.notes]
        self._write_record(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store the metrics of this validation as final, and as best if they are better."""
        if trainer.state.fn != "fit":
            return
        module = cast(HasResults, pl_module)
        found: dict[str, Any] = {
            "update": trainer.global_step,
            "epoch": trainer.current_epoch + 1,
            **module.report,
        }
        self.record.metrics["final"] = found
        # The same number that selects the weights: after rounding, another update could seem to be the best.
        value, best = float(trainer.callback_metrics[module.monitor]), self._best_value
        better = max if module.monitor_mode == "max" else min
        if not self._best or best is None or (value != best and better(value, best) == value):
            self._best, self._best_value = dict(found), value
        self.record.metrics["best"] = self._best
        self._write_record(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the outputs and scores of each test set."""
        for tested in cast(HasResults, pl_module).test_results:
            self.record.metrics[tested.name] = dict(tested.report)
            if trainer.is_global_zero:
                tested.write_outputs(self.folder)
        self._write_record(trainer)

    def _write_progress(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero and time.monotonic() - self._told >= _PROGRESS_SECONDS:
            self._told = time.monotonic()
            with contextlib.suppress(OSError):  # does not end the run
                write_progress(self.folder, trainer.global_step, self._steps)

    def _write_record(self, trainer: pl.Trainer) -> None:
        self.record.time["train_seconds"] = self.train_seconds
        if trainer.is_global_zero:
            write_record(self.record, self.folder)
