"""Tells a search of each validation, and ends the run if it asks for that."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, cast

import pytorch_lightning as pl


class Pruned(Exception):
    """A search has seen enough of this run."""


class HasReport(Protocol):
    """What a LightningModule says: its last evaluation, and which metric decides."""

    report: dict[str, Any]
    monitor: str


class PruningCallback(pl.Callback):
    """Calls `report(epoch, value)` after each validation, on the first rank; where that is true, the run ends.

    By epoch, not update: runs of a search may differ in how many updates an epoch has. It comes after what writes the
    record, which so holds the last validation.
    """

    def __init__(self, metric: str | None, report: Callable[[int, float], bool]) -> None:
        """`metric`: of the module's report; None: the one that it monitors."""
        self.metric, self.report = metric, report

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, and end the run if that is wanted.

        Raises:
            Pruned: it is.
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
