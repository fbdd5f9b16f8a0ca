"""Trackers of a run: Weights & Biases, CSV, TensorBoard or none."""

from __future__ import annotations

import csv
import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers import Logger as LightningLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from attnbench.config import Config, ConfigError, Fault
from attnbench.config.tracking import Logger
from attnbench.records.history import AXIS_KEYS, read_history
from attnbench.records.ranks import get_rank
from attnbench.records.record import Record
from attnbench.tracking.runs import describe_run, finish_run, get_first_line, start_run, stop_wandb


class ResumableWandbLogger(WandbLogger):
    """W&B logger that first logs the entries of earlier sessions, so that each W&B run is complete.

    W&B cannot resume an offline run: its next session would start at step 0 and replace the first one.
    """

    def __init__(self, run: Any, folder: Path) -> None:
        super().__init__(experiment=run, save_dir=folder)
        self._folder = folder
        self._told = False
        self.errors: dict[str, str] = {}  # reasons for data that W&B did not accept

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics; before the first ones, log the entries of earlier sessions.

        Args:
            metrics: numbers by name.
            step: number of the update.
        """
        self.log_earlier_history(math.inf if step is None else step)
        self._log_safely(super().log_metrics, metrics, step)

    def log_earlier_history(self, step: float) -> None:
        """Log what history.jsonl has of before `step`, once: not earlier, since training that begins cuts it back."""
        if self._told:
            return
        self._told = True
        for entry in read_history(self._folder):
            at = int(entry["update"]) - 1  # updates and epochs are counted from 1, Lightning's from 0
            if at < step:
                metrics = {key: value for key, value in entry.items() if key not in AXIS_KEYS}
                self._log_safely(super().log_metrics, metrics | {"epoch": entry["epoch"] - 1}, at)

    def log_summary(self, values: Mapping[str, Any]) -> None:
        """Write the results of the run into the summary."""
        self._log_safely(lambda metrics, _: self.experiment.summary.update(dict(metrics)), values, None)

    def _log_safely(
        self, log: Callable[[Mapping[str, Any], int | None], None], metrics: Mapping[str, Any], step: int | None
    ) -> None:
        """Log numbers or media: what goes wrong in the mirror must not cost the run, which has all of it in files.

        In online mode W&B contacts its server before it accepts a table, and the server may not answer.
        """
        try:
            log(metrics, step)
        except Exception as error:
            what = ", ".join(metrics)
            if what not in self.errors:
                self.errors[what] = f"{type(error).__name__}: {error}"
                print(f"attnbench: W&B did not take {what}: {self.errors[what]}", file=sys.stderr, flush=True)


class _ResumableWriter(ExperimentWriter):
    """Lightning's writer of metrics.csv that keeps the rows of earlier sessions."""

    def _check_log_dir_exists(self) -> None:
        self.metrics_keys = sorted(set().union(*_read_rows(Path(self.metrics_file_path))[:1]))


class ResumableCSVLogger(CSVLogger):
    """Writes metrics.csv so that a resumed run leaves the same file as an uninterrupted one."""

    @property
    def experiment(self) -> ExperimentWriter:
        """The writer; Lightning uses only the one of rank 0."""
        if self._experiment is None:
            os.makedirs(self.log_dir, exist_ok=True)
            self._experiment = _ResumableWriter(self.log_dir)
        return cast(ExperimentWriter, self._experiment)

    def remove_rows_after(self, update: float) -> None:
        """Take out the rows that an earlier session wrote after `update`, and those of a test, which is done again."""
        path = Path(self.log_dir, ExperimentWriter.NAME_METRICS_FILE)
        rows = _read_rows(path)
        # Lightning counts updates from 0.
        kept = [
            row
            for row in rows
            if float(row["step"]) < update and not any(value for key, value in row.items() if key.startswith("test/"))
        ]
        if not rows or len(kept) == len(rows):
            return
        draft = path.with_name(f".{path.name}.tmp")
        keys = sorted({key for row in kept for key, value in row.items() if value})
        with draft.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, keys, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(kept)
        if kept:
            os.replace(draft, path)
        else:
            draft.unlink()
            path.unlink()
        self._experiment = None  # Lightning would keep the old columns


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of a metrics.csv; a row that is cut short or has no step is left out."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error):
        return []
    return [row for row in rows if None not in row and None not in row.values() and _is_number(row.get("step", ""))]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


class CSVRewindCallback(pl.Callback):
    """Removes rows of metrics.csv that an earlier session wrote after its last checkpoint."""

    def __init__(self, logger: ResumableCSVLogger) -> None:
        self.logger = logger

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove rows after the update at which training resumes."""
        if trainer.is_global_zero:
            self.logger.remove_rows_after(trainer.global_step)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remove rows after the last update."""
        if trainer.is_global_zero:
            self.logger.remove_rows_after(math.inf)


@dataclass(frozen=True)
class Tracker:
    """Logger for Lightning, and its description in the record."""

    logger: LightningLogger | None
    description: dict[str, Any] | None

    @property
    def callbacks(self) -> list[pl.Callback]:
        """Callbacks that keep the logger's files correct in a resumed run."""
        return [CSVRewindCallback(self.logger)] if isinstance(self.logger, ResumableCSVLogger) else []

    def log_summary(self, record: Record) -> None:
        """Write the record's results into the tracker's summary."""
        if self.logger is None:
            return
        flat = {f"test/{key}": value for key, value in record.metrics["test"].items()}
        flat |= {f"best/{key}": value for key, value in record.metrics["best"].items()}
        flat |= {f"performance/{key}": value for key, value in record.performance.items()}
        flat |= {f"parameters/{key}": value for key, value in record.parameters.items()}
        if isinstance(self.logger, ResumableWandbLogger):
            self.logger.log_summary(flat)
        elif isinstance(self.logger, TensorBoardLogger):
            numbers = {key: value for key, value in flat.items() if isinstance(value, (int, float))}
            self.logger.log_hyperparams(record.config, numbers)


def build_logger(config: Config, record: Record, folder: Path) -> Tracker:
    """Build the configured tracker.

    Args:
        config: config of the run.
        record: record of the run.
        folder: folder to write into.

    Raises:
        ConfigError: the tracker's package is not installed.
    """
    chosen = config.logger
    if chosen.name is Logger.none:
        return Tracker(None, None)
    if chosen.name is Logger.wandb:
        return _build_wandb_tracker(config, record, folder)
    described = {"kind": chosen.name.name, "folder": chosen.name.name}
    if chosen.name is Logger.csv:
        return Tracker(ResumableCSVLogger(folder, name=chosen.name.name, version=""), described)
    try:
        logger = TensorBoardLogger(folder, name=chosen.name.name, version="", default_hp_metric=False)
    except ModuleNotFoundError as error:
        fault = Fault("logger", "tensorboard", "needs a package: pip install 'attnbench[tensorboard]'")
        raise ConfigError([fault]) from error
    return Tracker(logger, described)


def _build_wandb_tracker(config: Config, record: Record, folder: Path) -> Tracker:
    if get_rank() != 0:
        return Tracker(WandbLogger(save_dir=folder, offline=True), None)
    try:
        run, why = start_run(
            config.logger,
            folder,
            run_id=record.run_id,
            name=f"{config.name}-{record.run_id}",
            group=config.sweep.name,
            job_type=config.task.family,
            tags=[config.model.family, config.data.family, *config.logger.tags],
            config=record.config,
            git=record.provenance["git"],
        )
    except Exception as error:  # for example, an invalid WANDB_... variable
        note = f"W&B did not start: {get_first_line(error)}; this run has no mirror at W&B, and all of its files here"
        print(f"attnbench: {note}", file=sys.stderr, flush=True)
        with suppress(Exception):
            stop_wandb()
        return Tracker(None, {"kind": Logger.none.name, "fallback": note})
    described = describe_run(run, folder) | ({"fallback": why} if why else {})
    return Tracker(ResumableWandbLogger(run, folder), described)


def close_logger(tracker: Tracker, failed: bool) -> None:
    """Flush and close the tracker.

    Args:
        tracker: the tracker.
        failed: whether W&B shows the run as failed.
    """
    if isinstance(tracker.logger, ResumableWandbLogger):
        tracker.logger.log_earlier_history(math.inf)  # if this session logged nothing
        unsent = finish_run(tracker.logger.experiment, failed=failed)
        if tracker.description is not None:
            found = {"unsent": unsent, "lost": tracker.logger.errors}
            tracker.description.update({key: value for key, value in found.items() if value})
    elif tracker.logger is not None:
        tracker.logger.finalize("failed" if failed else "success")
