"""One run, from its config to its record: train, choose weights, test, and tell the truth when that fails."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytorch_lightning as pl
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from attnbench.config import Config
from attnbench.data.checksums import check_loaded
from attnbench.data.errors import DataError
from attnbench.data.overlap import describe_overlap
from attnbench.process import interrupts
from attnbench.records.identity import provenance
from attnbench.records.lifecycle import error_of, last_record, new_record, now
from attnbench.records.ranks import rank, remove_stray_variables
from attnbench.records.record import PROGRESS, Kind, Record, Status, write
from attnbench.tasks.base import Task
from attnbench.tasks.build import build_task
from attnbench.tasks.data import TaskData
from attnbench.training.callbacks.gradients import InitialGradients
from attnbench.training.callbacks.history import History
from attnbench.training.callbacks.performance import Performance
from attnbench.training.callbacks.run_record import RunRecord
from attnbench.training.checkpointing import (
    LAST,
    checkpoint_fault,
    final_weights,
    latest,
)
from attnbench.training.distributed import among_ranks, on_gpu
from attnbench.training.loggers import build_logger, close_logger
from attnbench.training.trainer import adapt, build_keepers, build_trainer, observers

_NOISE = (
    # Everything is in memory and a collate costs microseconds: loader workers would only cost.
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    # It is: the data module keeps its place in the epoch itself.
    ".*your dataloader is not resumable.*",
    # Lightning against newer torch.
    ".*isinstance\\(treespec, LeafSpec\\).*",
)


MODEL = "model.ckpt"


def execute(config: Config, folder: Path, overrides: list[str]) -> Record:
    """Train and test what `config` says in `folder`, going on from a checkpoint that lies there.

    The record is written at once with status running, and at the end whatever happened; what went wrong is raised
    again afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = last_record(folder)
    record = new_record(config, overrides, before)
    if before is not None and (folder / LAST).is_file():
        # Where training was already over, this session has nothing of its own to say of its speed.
        record.performance = before.performance
    remove_stray_variables()
    rank_zero_only.rank = rank()  # type: ignore[attr-defined]  # which Lightning has read from the same variables
    with interrupts.handled(), recorded(record, folder), among_ranks(config):
        if config.trainer.threads is not None:
            torch.set_num_threads(config.trainer.threads)
        pl.seed_everything(config.seed, verbose=False)
        task, data = build_task(config)
        check_loaded(config.data, data.checksums)
        if before is not None and (folder / LAST).is_file():
            check_unchanged(before, data.checksums, folder)
        found = provenance(data.checksums, device=_device(config), threads=torch.get_num_threads())
        record.set_provenance(found | {"overlap": data.overlap})
        shared = describe_overlap(data.overlap)
        if rank() == 0:
            for sentence in shared:
                print(f"attnbench: {sentence}", file=sys.stderr)
        record.notes = [*data.notes, *shared]
        record.parameters = {
            "total": sum(p.numel() for p in task.network.parameters()),
            "trainable": sum(p.numel() for p in task.network.parameters() if p.requires_grad),
        }
        with without_noise():
            train_and_test(config, task, data, record, folder, before)
    return record


def check_unchanged(before: Record, checksums: Mapping[str, str], folder: Path) -> None:
    """Check that a run goes on with the data that it began with.

    Raises:
        DataError: a file has another checksum than in the record of the last attempt.
    """
    known = {name: digest for session in before.all_sessions for name, digest in session.get("data", {}).items()}
    changed = [name for name, digest in checksums.items() if known.get(name, digest) != digest]
    if changed:
        raise DataError(
            f"{', '.join(changed)}: not as when this run began; expected the same content: put it back, or delete"
            f" {folder} to begin anew"
        )


@contextmanager
def recorded(record: Record, folder: Path) -> Iterator[None]:
    """Write the record now, and again with how it ended."""
    try:
        _write(record, folder)
        yield
        interrupts.ignore_from_now()
        record.status = Status.finished
    except BaseException as error:
        interrupts.ignore_from_now()
        record.error = error_of(error, folder)
        stopped = record.error["kind"] == Kind.interrupted
        record.status = Status.interrupted if stopped else Status.failed
        raise
    finally:
        record.time["ended"] = now()
        with suppress(OSError):
            (folder / PROGRESS).unlink()
        _write(record, folder)


def train_and_test(
    config: Config, task: Task, data: TaskData, record: Record, folder: Path, before: Record | None
) -> None:
    """Fit, choose the final weights, keep them as model.ckpt, test them once."""
    performance = Performance(window_steps=config.logger.every_steps)
    run_record = RunRecord(record, folder, performance)
    keepers = build_keepers(config, task, folder)
    logger = build_logger(config, record, folder)
    record.tracker = logger.describe
    trainer = build_trainer(
        config,
        folder,
        logger.logger,
        [
            performance,
            run_record,
            History(folder, config.logger.every_steps, run_record, performance),
            *logger.callbacks,
            InitialGradients(record),
            *observers(config, performance, folder),
            *keepers,
        ],
    )
    adapt(task.network, config.trainer)
    whole, damaged = latest(folder, lambda found: checkpoint_fault(found, record.run_id, keepers), tidy=rank() == 0)
    for note in damaged:
        print(f"attnbench: {note}", file=sys.stderr)
    # Notes of earlier attempts count where training goes on from their checkpoint, and not where it begins anew.
    earlier = before.notes if before is not None and whole is not None else []
    record.notes = list(dict.fromkeys([*earlier, *record.notes, *damaged]))
    failed = True
    try:
        trainer.fit(task, datamodule=data, ckpt_path=whole, weights_only=True)
        weights, notes = final_weights(config, keepers, folder / LAST, record.metrics["best"])
        record.notes += notes
        set_model_state_dict(task, weights, options=StateDictOptions(full_state_dict=True))
        trainer.save_checkpoint(folder / MODEL, weights_only=True)
        trainer.test(task, datamodule=data, verbose=False)
        logger.summarise(record)
        failed = False
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        diverged = task.diverged_from(error)
        if diverged is None:
            raise
        raise diverged from error
    finally:
        close_logger(logger, failed)


@contextmanager
def without_noise() -> Iterator[None]:
    """Keep to ourselves what Lightning says that no reader can act on."""
    levels = {name: logging.getLogger(name).level for name in ("pytorch_lightning", "lightning.pytorch")}
    with warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message=message)
        for name in levels:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _write(record: Record, folder: Path) -> None:
    """One record, however many ranks."""
    if rank() == 0:
        write(record, folder)


def _device(config: Config) -> str:
    return torch.cuda.get_device_name() if on_gpu(config.trainer) else "cpu"
