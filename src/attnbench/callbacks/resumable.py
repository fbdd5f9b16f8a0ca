"""A run that can be stopped anywhere and gone on with: periodic full checkpoints, and stops at whole updates."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint


class Interrupted(Exception):
    """Somebody asked the run to stop (Ctrl-C, SIGTERM); what it had learned is in the last checkpoint."""


class Resumable(Checkpoint):
    """Writes `path` after every validation, every `minutes`, and when a signal asks to stop.

    A signal only sets a flag; the stop happens between two updates, because a checkpoint taken while weights are
    being written would be neither of both. A second signal does not wait. As a Checkpoint it comes after every other
    callback, so that what it saves holds their latest state.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path = path
        self.seconds = 60 * minutes
        self.wanted: str | None = None
        self._saved = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals, and start the clock of periodic checkpoints.

        Not in `setup`: Lightning sets a handler of its own after that, which stops in the middle of an update.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            if number not in self._handlers:
                self._handlers[number] = signal.signal(number, self._ask)
        self._saved = time.monotonic()

    on_test_start = on_train_start

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back, before Lightning gives back its own."""
        while self._handlers:
            number, handler = self._handlers.popitem()
            signal.signal(number, handler)

    on_test_end = on_train_end

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self.on_train_end(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save between two updates of an epoch if it is time to, and stop if somebody asked.

        Not after an epoch's last update, nor training's: from there Lightning would go on behind a validation that has
        not been, and count epochs wrongly when it is resumed a second time. A validation or another update is next.
        """
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # half an update is not a place to stop
        over = trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if over or batch_idx + 1 >= trainer.num_training_batches:
            if trainer.num_training_batches <= trainer.accumulate_grad_batches:  # every update is an epoch's last
                self._stop_if_asked(trainer)
            return
        due = self.wanted is not None or time.monotonic() - self._saved >= self.seconds
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self._save(trainer)
            self._stop_if_asked(trainer)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Validation is cheap to do again: nothing to save."""
        self._stop_if_asked(trainer)

    on_test_batch_start = on_validation_batch_start

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what validation decided: best checkpoint, patience, learning curves."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.wanted is not None:
            raise KeyboardInterrupt
        self.wanted = signal.Signals(number).name

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if trainer.strategy.reduce_boolean_decision(self.wanted is not None, all=False):
            raise Interrupted(f"stopped by {self.wanted or 'another rank'} after update {trainer.global_step}")

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()
