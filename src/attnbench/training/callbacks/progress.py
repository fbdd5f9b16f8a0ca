"""Progress line with loss, throughput and remaining time."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Timer
from tqdm import tqdm

from attnbench.process.output import supports_cursor_control
from attnbench.training.callbacks.performance import Performance


class ProgressCallback(pl.Callback):
    """Progress bar of the whole training on a terminal; without a terminal, one line per validation.

    The remaining time is estimated from the limit that will be reached first: updates, epochs or minutes.
    """

    def __init__(self, performance: Performance) -> None:
        self.performance = performance
        self.bar: tqdm[Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar where training stands; a resumed run does not start at zero."""
        if trainer.is_global_zero and supports_cursor_control(sys.stderr):
            steps = trainer.estimated_stepping_batches
            total = int(steps) if steps != float("inf") else None
            self.bar = tqdm(total=total, initial=trainer.global_step, unit="update", dynamic_ncols=True, leave=False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self.bar is None:
            return
        self.bar.update(trainer.global_step - self.bar.n)
        if trainer.global_step % 10 == 0:
            self.bar.set_postfix_str(self._format_status(trainer), refresh=False)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the validation metrics."""
        if not trainer.is_global_zero or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        scores = [f"{k} {v:.4g}" for k, v in sorted(trainer.callback_metrics.items()) if k.startswith("val/")]
        line = f"  update {trainer.global_step}, epoch {trainer.current_epoch + 1}: " + ", ".join(
            [*scores, self._format_status(trainer)]
        )
        tqdm.write(line, file=sys.stderr)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Clear the progress line."""
        self.on_train_end(trainer, pl_module)

    def _format_status(self, trainer: pl.Trainer) -> str:
        parts = []
        loss, rate = trainer.callback_metrics.get("train/loss"), self.performance.meter.latest_rate
        if loss is not None:
            parts.append(f"loss {float(loss):.3f}")
        if rate is not None:
            parts.append(f"{rate:,.0f} {self.performance.unit_name}/s")
        left = next((c.time_remaining() for c in cast(Any, trainer).callbacks if isinstance(c, Timer)), None)
        if left is not None:
            parts.append(f"at most {max(0.0, left) / 60:.0f} min left")
        return ", ".join(parts)
