"""Runs that can be stopped at any time and resumed: periodic full checkpoints, and stops after whole updates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from attnbench.process import interrupts
from attnbench.process.interrupts import Interrupted

__all__ = ["Interrupted", "ResumableCheckpoint"]


class ResumableCheckpoint(Checkpoint):
    """Writes a full checkpoint after every validation, every `minutes`, and when a signal asks the run to stop.

    During training and test a first signal waits for the end of the update, because a checkpoint during an update
    would hold a mix of old and new weights. A second signal does not wait. As a Checkpoint callback it runs after all
    others, and saves their latest state.
    """

    def __init__(self, path: Path, minutes: float) -> None:
        self.path = path
        self.seconds = 60 * minutes
        self._saved = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let signals wait for the end of the update, and start the timer of periodic checkpoints."""
        interrupts.set_waiting_for_check(True)
        self._saved = time.monotonic()

    on_test_start = on_train_start

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Handle a waiting signal before the test, and let signals interrupt at once again."""
        interrupts.set_waiting_for_check(False)

    on_test_end = on_train_end

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let signals interrupt at once again."""
        self.on_train_end(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save between two updates of an epoch if it is time to, and stop if somebody asked.

        Not after an epoch's last update, nor training's: from there Lightning would go on behind a validation that has
        not been, and count epochs wrongly when it is resumed a second time. A validation or another update is next.
        """
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # never stop in the middle of an update
        over = trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if over or batch_idx + 1 >= trainer.num_training_batches:
            if trainer.num_training_batches <= trainer.accumulate_grad_batches:  # each epoch has one update
                self._stop_if_requested(trainer)
            return
        due = interrupts.get_requested_signal() is not None or time.monotonic() - self._saved >= self.seconds
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            self._save_checkpoint(trainer)
            self._stop_if_requested(trainer)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop if a signal was received; a validation can be repeated, so nothing is saved."""
        self._stop_if_requested(trainer)

    on_test_batch_start = on_validation_batch_start

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what validation decided: best checkpoint, patience, learning curves."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save_checkpoint(trainer)

    def _stop_if_requested(self, trainer: pl.Trainer) -> None:
        number = interrupts.get_requested_signal() or 0
        if trainer.world_size > 1:  # all ranks stop at the same update, with the signal that one of them received
            mine = torch.tensor(float(number), device=trainer.strategy.root_device)
            number = int(trainer.strategy.reduce(mine, reduce_op="max"))
        if number:
            interrupts.raise_interrupted(number, f"after update {trainer.global_step}")

    def _save_checkpoint(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()
