"""The tracker of a run: Weights & Biases, CSV, TensorBoard or none, opened, filled in and closed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers import Logger as LightningLogger

from attnbench.config import Config, ConfigError, Fault
from attnbench.config.tracking import Logger, LoggerMode
from attnbench.record import Record
from attnbench.sweep.ranks import rank


@dataclass(frozen=True)
class Tracker:
    """A logger for Lightning, and what the record says of it."""

    logger: LightningLogger | None
    describe: dict[str, Any] | None

    def summarise(self, record: Record) -> None:
        """The record's results, where the tracker shows a run's summary."""
        if self.logger is None:
            return
        flat = {f"test/{key}": value for key, value in record.metrics["test"].items()}
        flat |= {f"best/{key}": value for key, value in record.metrics["best"].items()}
        flat |= {f"performance/{key}": value for key, value in record.performance.items()}
        flat |= {f"parameters/{key}": value for key, value in record.parameters.items()}
        if isinstance(self.logger, WandbLogger):
            self.logger.experiment.summary.update(flat)
        elif isinstance(self.logger, TensorBoardLogger):
            numbers = {key: value for key, value in flat.items() if isinstance(value, (int, float))}
            self.logger.log_hyperparams(record.config, numbers)


def build_logger(config: Config, record: Record, folder: Path) -> Tracker:
    """The configured tracker, writing under `folder`.

    Raises:
        ConfigError: the tracker's package is missing, or W&B has nobody logged in for mode=online.
    """
    chosen = config.logger
    if chosen.name is Logger.none:
        return Tracker(None, None)
    if chosen.name is Logger.wandb:
        return _wandb(config, record, folder)
    described = {"kind": chosen.name.name, "folder": chosen.name.name}
    if chosen.name is Logger.csv:
        return Tracker(CSVLogger(folder, name=chosen.name.name, version=""), described)
    try:
        logger = TensorBoardLogger(folder, name=chosen.name.name, version="", default_hp_metric=False)
    except ModuleNotFoundError as error:
        fault = Fault("logger", "tensorboard", "needs a package: pip install 'attnbench[tensorboard]'")
        raise ConfigError([fault]) from error
    return Tracker(logger, described)


def _wandb(config: Config, record: Record, folder: Path) -> Tracker:
    import wandb

    chosen = config.logger
    # Even offline, the client would report its own errors home.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    if rank() != 0:
        return Tracker(WandbLogger(save_dir=folder, offline=True), None)
    try:
        run = wandb.init(
            project=chosen.project,
            entity=chosen.entity,
            name=f"{config.name}-{record.run_id}",
            id=record.run_id,
            group=config.sweep.name,
            job_type=config.task.family,
            tags=[config.model.family, config.data.family, *chosen.tags],
            dir=folder,
            config=record.config,
            # Unset when online: a mode given here would win over WANDB_MODE.
            mode="offline" if chosen.mode is LoggerMode.offline else None,
            settings=wandb.Settings(silent=True, console="off"),
        )
    except wandb.errors.Error as error:
        fault = Fault("logger.mode", "online", f"W&B did not start: {error}; try logger.mode=offline")
        raise ConfigError([fault]) from error
    # W&B's own step counts calls, and starts anew when an offline run is gone on with.
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    described = {
        "kind": "wandb",
        "mode": chosen.mode.name,
        "project": chosen.project,
        "group": config.sweep.name,
        "id": record.run_id,
        "folder": "wandb",
    }
    return Tracker(WandbLogger(experiment=run, save_dir=folder), described)


def close_logger(tracker: Tracker, failed: bool) -> None:
    """Flush and close; W&B shows a run that failed as failed."""
    if isinstance(tracker.logger, WandbLogger):
        import wandb

        wandb.finish(exit_code=1 if failed else 0)
    elif tracker.logger is not None:
        tracker.logger.finalize("failed" if failed else "success")
