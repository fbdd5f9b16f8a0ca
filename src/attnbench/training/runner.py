"""Run one training from its config to its record: train, select weights, test, and record errors."""

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
from attnbench.records.identity import collect_provenance
from attnbench.records.lifecycle import build_exception_error, create_record, format_current_time, load_previous_record
from attnbench.records.ranks import get_rank, remove_stray_variables
from attnbench.records.record import PROGRESS_FILE, FailureReason, Record, Status, write_record
from attnbench.tasks.base import Task
from attnbench.tasks.build import build_task
from attnbench.tasks.data import TaskData
from attnbench.training.callbacks.gradients import InitialGradients
from attnbench.training.callbacks.history import HistoryCallback
from attnbench.training.callbacks.performance import Performance
from attnbench.training.callbacks.run_record import RecordCallback
from attnbench.training.checkpointing import (
    LAST_CHECKPOINT,
    find_checkpoint_fault,
    find_latest_checkpoint,
    load_final_weights,
)
from attnbench.training.distributed import process_group, uses_gpu
from attnbench.training.loggers import build_logger, close_logger
from attnbench.training.trainer import (
    apply_compile_and_checkpointing,
    build_checkpoint_callbacks,
    build_monitoring_callbacks,
    build_trainer,
)

_IGNORED_WARNINGS = (
    # All data is in memory and collation takes microseconds: loader workers would only cost time.
    ".*does not have many workers.*",
    ".*is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    # The data module stores its position in the epoch itself.
    ".*your dataloader is not resumable.*",
    # Lightning against newer torch.
    ".*isinstance\\(treespec, LeafSpec\\).*",
)


MODEL_FILE = "model.ckpt"


def run_training(config: Config, folder: Path, overrides: list[str]) -> Record:
    """Train and test what `config` says in `folder`, going on from a checkpoint that lies there.

    The record is written at once with status running, and at the end whatever happened; what went wrong is raised
    again afterwards.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = load_previous_record(folder)
    record = create_record(config, overrides, before)
    if before is not None and (folder / LAST_CHECKPOINT).is_file():
        # If training was already complete, this session has no throughput.
        record.performance = before.performance
    remove_stray_variables()
    rank_zero_only.rank = get_rank()  # type: ignore[attr-defined]  # which Lightning has read from the same variables
    with interrupts.handle_signals(), write_record_around(record, folder), process_group(config):
        if config.trainer.num_threads is not None:
            torch.set_num_threads(config.trainer.num_threads)
        pl.seed_everything(config.seed, verbose=False)
        task, data = build_task(config)
        check_loaded(config.data, data.checksums)
        if before is not None and (folder / LAST_CHECKPOINT).is_file():
            check_data_unchanged(before, data.checksums, folder)
        found = collect_provenance(data.checksums, device=_get_device_name(config), num_threads=torch.get_num_threads())
        record.set_provenance(found | {"overlap": data.overlap})
        shared = describe_overlap(data.overlap)
        if get_rank() == 0:
            for sentence in shared:
                print(f"attnbench: {sentence}", file=sys.stderr)
        record.notes = [*data.notes, *shared]
        record.parameters = {
            "total": sum(p.numel() for p in task.network.parameters()),
            "trainable": sum(p.numel() for p in task.network.parameters() if p.requires_grad),
        }
        with ignore_warnings():
            train_and_test(config, task, data, record, folder, before)
    return record


def check_data_unchanged(previous: Record, checksums: Mapping[str, str], folder: Path) -> None:
    """Check that a resumed run has the data that it started with.

    Raises:
        DataError: a file has another checksum than in the record of the last attempt.
    """
    known = {name: digest for session in previous.all_sessions for name, digest in session.get("data", {}).items()}
    changed = [name for name, digest in checksums.items() if known.get(name, digest) != digest]
    if changed:
        raise DataError(
            f"{', '.join(changed)}: not as when this run began; expected the same content: put it back, or delete"
            f" {folder} to restart from the beginning"
        )


@contextmanager
def write_record_around(record: Record, folder: Path) -> Iterator[None]:
    """Write the record now, and again with how it ended."""
    try:
        _write_record(record, folder)
        yield
        interrupts.ignore_signals()
        record.status = Status.finished
    except BaseException as error:
        interrupts.ignore_signals()
        record.error = build_exception_error(error, folder)
        stopped = record.error["kind"] == FailureReason.interrupted
        record.status = Status.interrupted if stopped else Status.failed
        raise
    finally:
        record.time["ended"] = format_current_time()
        with suppress(OSError):
            (folder / PROGRESS_FILE).unlink()
        _write_record(record, folder)


def train_and_test(
    config: Config, task: Task, data: TaskData, record: Record, folder: Path, previous: Record | None
) -> None:
    """Train, select the final weights, write them as model.ckpt, and test them once.

    Args:
        config: config of the run.
        task: the task.
        data: its data.
        record: record of the run; results are added.
        folder: folder of the run.
        previous: record of an earlier attempt.
    """
    performance = Performance(window_steps=config.logger.log_every_n_steps)
    run_record = RecordCallback(record, folder, performance)
    keepers = build_checkpoint_callbacks(config, task, folder)
    logger = build_logger(config, record, folder)
    record.tracker = logger.description
    trainer = build_trainer(
        config,
        folder,
        logger.logger,
        [
            performance,
            run_record,
            HistoryCallback(folder, config.logger.log_every_n_steps, run_record, performance),
            *logger.callbacks,
            InitialGradients(record),
            *build_monitoring_callbacks(config, performance, folder),
            *keepers,
        ],
    )
    apply_compile_and_checkpointing(task.network, config.trainer)
    whole, damaged = find_latest_checkpoint(
        folder, lambda found: find_checkpoint_fault(found, record.run_id, keepers), rename_damaged=get_rank() == 0
    )
    for note in damaged:
        print(f"attnbench: {note}", file=sys.stderr)
    # Notes of earlier attempts are kept only if training resumes from their checkpoint.
    earlier = previous.notes if previous is not None and whole is not None else []
    record.notes = list(dict.fromkeys([*earlier, *record.notes, *damaged]))
    failed = True
    try:
        trainer.fit(task, datamodule=data, ckpt_path=whole, weights_only=True)
        weights, notes = load_final_weights(config, keepers, folder / LAST_CHECKPOINT, record.metrics["best"])
        record.notes += notes
        set_model_state_dict(task, weights, options=StateDictOptions(full_state_dict=True))
        trainer.save_checkpoint(folder / MODEL_FILE, weights_only=True)
        trainer.test(task, datamodule=data, verbose=False)
        logger.log_summary(record)
        failed = False
    except (RuntimeError, ValueError, IndexError, ArithmeticError) as error:
        diverged = task.convert_to_training_error(error)
        if diverged is None:
            raise
        raise diverged from error
    finally:
        close_logger(logger, failed)


@contextmanager
def ignore_warnings() -> Iterator[None]:
    """Keep to ourselves what Lightning says that no reader can act on."""
    levels = {name: logging.getLogger(name).level for name in ("pytorch_lightning", "lightning.pytorch")}
    with warnings.catch_warnings():
        for message in _IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        for name in levels:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _write_record(record: Record, folder: Path) -> None:
    """Write the record on rank 0."""
    if get_rank() == 0:
        write_record(record, folder)


def _get_device_name(config: Config) -> str:
    return torch.cuda.get_device_name() if uses_gpu(config.trainer) else "cpu"
