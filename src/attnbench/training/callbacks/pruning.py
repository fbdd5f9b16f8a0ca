"""Reports each validation to a search, and ends the run if the search prunes it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, cast

import pytorch_lightning as pl


class Pruned(Exception):
    """Raised when a search ends this run early."""


class HasReport(Protocol):
    """Interface of LightningModules with a report of the last evaluation and a monitored metric."""

    report: dict[str, Any]
    monitor: str


class PruningCallback(pl.Callback):
    """Calls `report(epoch, value)` on the first rank after each validation; if it returns True, the run ends.

    Epochs are reported, not updates, because the runs of a search may differ in updates per epoch. The callback comes
    after the one that writes the record, so that the record has the last validation.
    """

    def __init__(self, metric: str | None, report: Callable[[int, float], bool]) -> None:
        """Create the callback.

        Args:
            metric: metric of the report; None: the monitored one.
            report: takes epoch and value, and returns True to end the run.
        """
        self.metric, self.report = metric, report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric, and end the run if the search prunes it.

        Raises:
            Pruned: the search prunes the run.
            ValueError: there is no such metric.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        module = cast(HasReport, pl_module)
        key = (self.metric or module.monitor).rpartition("/")[2]
        if key not in module.report:
            known = ", ".join(key for key, value in module.report.items() if isinstance(value, float))
            raise ValueError(f"hydra.sweeper.metric={self.metric}: a validation tells {known}")
        epoch, value = trainer.current_epoch + 1, float(module.report[key])
        enough = trainer.is_global_zero and math.isfinite(value) and self.report(epoch, value)
        if trainer.strategy.reduce_boolean_decision(enough, all=False):
            raise Pruned(f"{key} {value:.4g} at epoch {epoch}, where other runs of the search are better")
