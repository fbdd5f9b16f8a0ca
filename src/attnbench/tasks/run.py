"""One run, from its config to its record: train, choose weights, test, and tell the truth when that fails."""

from __future__ import annotations

import datetime
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.callbacks import EarlyStopping, Timer
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from attnbench import interrupts
from attnbench.callbacks.checkpoints import (
    LAST,
    CheckpointFault,
    MovableCheckpoint,
    WholeCheckpoints,
    latest,
    read_checkpoint,
)
from attnbench.callbacks.gradients import InitialGradients
from attnbench.callbacks.history import History
from attnbench.callbacks.performance import Performance
from attnbench.callbacks.pictures import Pictures
from attnbench.callbacks.progress import Progress
from attnbench.callbacks.pruning import Pruning
from attnbench.callbacks.resumable import Resumable
from attnbench.callbacks.run_record import RunRecord
from attnbench.callbacks.samples import Samples
from attnbench.config import Config, ConfigError, Fault
from attnbench.config.trainer import FinalWeights, Precision, Strategy, TrainerConfig
from attnbench.data.content import check_loaded
from attnbench.data.errors import DataError
from attnbench.data.overlap import describe_overlap
from attnbench.identity import provenance, run_id_of
from attnbench.nn.recompute import recompute
from attnbench.record import PROGRESS, Kind, Record, RecordError, Status, write
from attnbench.sweep.optuna_study import reporter
from attnbench.sweep.ranks import here, rank, remove_stray_variables, started
from attnbench.sweep.records import error_of, last_record, new_record, now
from attnbench.tasks.base import CHECKPOINT_KEY, Task
from attnbench.tasks.build import build_task
from attnbench.tasks.data import TaskData
from attnbench.tasks.group import FullySharded, among_ranks, on_gpu
from attnbench.tasks.optimisation import average
from attnbench.tasks.tracking import build_logger, close_logger

_PRECISION = {Precision.fp32: "32-true", Precision.bf16_mixed: "bf16-mixed", Precision.fp16_mixed: "16-mixed"}
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
_ANEW = "the same command begins anew"


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


def adapt(network: nn.Module, chosen: TrainerConfig) -> None:
    """Let the network compute as the trainer's config says: recompute activations, or run compiled."""
    if chosen.recompute:
        recompute(network)
    if chosen.compile:
        network.compile(dynamic=True)


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


def observers(config: Config, performance: Performance, folder: Path) -> list[pl.Callback]:
    """The callbacks that only look."""
    chosen = config.callbacks
    found: list[pl.Callback] = []
    if chosen.progress_bar:
        found.append(Progress(performance))
    if chosen.samples:
        found.append(Samples(folder, chosen.samples))
    if chosen.pictures:
        found.append(Pictures(folder / "pictures", chosen.probe_size, chosen.pictures_every_validations))
    if config.sweep.study is not None and config.sweep.trial is not None:
        found.append(Pruning(*reporter(folder.parent, config.sweep.study, config.sweep.trial)))
    return found


def build_keepers(config: Config, task: Task, folder: Path) -> list[pl.Callback]:
    """The callbacks that stop training and keep weights; the resumable checkpoint is last and so holds their state."""
    chosen, checkpoints = config.trainer, folder / LAST.parent
    found: list[pl.Callback] = []
    if chosen.max_minutes is not None:
        found.append(Timer(duration=datetime.timedelta(minutes=chosen.max_minutes), verbose=False))
    if chosen.patience is not None:
        found.append(EarlyStopping(task.monitor, mode=task.monitor_mode, patience=chosen.patience))
    common: dict[str, Any] = {
        "dirpath": checkpoints,
        "enable_version_counter": False,
        "save_weights_only": True,
        # At a validation's end, and so before the resumable checkpoint, which would else not know of it.
        "save_on_train_epoch_end": False,
    }
    if chosen.final_weights is FinalWeights.best:
        found.append(MovableCheckpoint(filename="best", monitor=task.monitor, mode=task.monitor_mode, **common))
    elif chosen.final_weights is FinalWeights.average:
        recent = MovableCheckpoint(
            filename="recent-{step}", monitor="step", mode="max", save_top_k=chosen.average_last, **common
        )
        found.append(recent)
    return [*found, Resumable(folder / LAST, chosen.save_every_minutes)]


def checkpoint_fault(checkpoint: dict[str, Any], run_id: str, keepers: list[pl.Callback]) -> str | None:
    """Check that a run can go on from `checkpoint`: it is of this run, and the weights that it has kept are there.

    Args:
        checkpoint: what last.ckpt or previous.ckpt holds.
        run_id: of this run.
        keepers: this session's callbacks that keep weights.

    Returns:
        What is wrong, as in "best.ckpt was damaged"; None: nothing.
    """
    stored = checkpoint.get(CHECKPOINT_KEY)
    if stored is None or run_id_of(stored["config"]) != run_id:
        return "was of another run"
    best = checkpoint["callbacks"].get(RunRecord.__qualname__, {}).get("best", {}).get("update")
    faults = (keeper.fault_of(checkpoint, best) for keeper in keepers if isinstance(keeper, MovableCheckpoint))
    return next((fault for fault in faults if fault is not None), None)


def final_weights(
    config: Config, keepers: list[pl.Callback], last: Path, best: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Read the state dict that is tested and kept, as `trainer.final_weights` says.

    Args:
        config: of the run.
        keepers: the callbacks that have kept weights.
        last: the run's own checkpoint.
        best: the record's `metrics.best`; the best weights must be of its update.

    Returns:
        The state dict, and what a reader of the record must know of it.

    Raises:
        RecordError: a file of weights that is damaged, or of another update than the record says.
    """
    chosen = config.trainer
    wanted: dict[str, int | None] = {str(last): None}
    for keeper in keepers:
        if isinstance(keeper, MovableCheckpoint):
            is_best = chosen.final_weights is FinalWeights.best
            steps = sorted((int(score), path) for path, score in keeper.best_k_models.items())
            wanted = {keeper.best_model_path: best.get("update")} if is_best else {path: step for step, path in steps}
    states, updates = [], []
    for path, update in wanted.items():
        try:
            checkpoint = read_checkpoint(Path(path))
        except CheckpointFault as fault:
            raise RecordError(f"{path}: {fault}; {_ANEW}") from fault
        found = checkpoint["global_step"]
        if update is not None and found != update:
            raise RecordError(f"{path}: weights of update {found}, where the record has {update}; {_ANEW}")
        updates.append(found)
        states.append(checkpoint["state_dict"])  # alone: the optimiser's state is twice as large
    notes = []
    if chosen.final_weights is FinalWeights.average and len(updates) < chosen.average_last:
        notes.append(
            f"tested: the mean of all {len(updates)} checkpoints, of update {min(updates)} to {max(updates)}, where the"
            f" last {chosen.average_last} of more were meant: trainer.final_weights=best may be what you want"
        )
    return dict(average(states)), notes


def shares_per_update(config: Config) -> int:
    """Batches that a device adds up before each update, so that none exceeds `trainer.micro_batch`."""
    limit = config.trainer.micro_batch
    if limit is None:
        return 1
    return math.ceil(config.data.update_size / (limit * config.trainer.devices * config.trainer.num_nodes))


def build_trainer(config: Config, folder: Path, logger: Any, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer as the config says."""
    chosen, debug = config.trainer, config.debug
    if chosen.precision is Precision.fp16_mixed and not on_gpu(chosen):  # Lightning would compute in bf16 instead
        raise ConfigError([Fault("trainer.precision", "fp16_mixed", "expected bf16_mixed or fp32: fp16 needs a GPU")])
    checkpoints = WholeCheckpoints(shares_per_update(config))
    plugins: list[Any] = [checkpoints]
    if here() is not None or started() == 1:
        plugins.append(LightningEnvironment())  # whatever cluster's variables are about
    strategy: Any = chosen.strategy.name
    if chosen.strategy is Strategy.fsdp:
        strategy = FullySharded(chosen.devices * chosen.num_nodes, checkpoints)
    trainer = pl.Trainer(
        accelerator=chosen.accelerator.name,
        devices=chosen.devices,
        num_nodes=chosen.num_nodes,
        strategy=strategy,
        precision=_PRECISION[chosen.precision],  # type: ignore[arg-type]
        max_epochs=chosen.max_epochs if chosen.max_epochs is not None else -1,
        max_steps=chosen.max_steps if chosen.max_steps is not None else -1,
        accumulate_grad_batches=shares_per_update(config),
        check_val_every_n_epoch=chosen.validate_every_epochs,
        limit_train_batches=debug.limit_batches,
        limit_val_batches=debug.limit_batches,
        limit_test_batches=debug.limit_batches,
        detect_anomaly=debug.detect_anomaly,
        log_every_n_steps=config.logger.every_steps,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        plugins=plugins,
        logger=logger or False,  # None would be TensorBoard, or CSV
        callbacks=callbacks,
    )
    # Signals are ours; Lightning's handler would stop in the middle of an update, and ask other ranks from within it.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def _write(record: Record, folder: Path) -> None:
    """One record, however many ranks."""
    if rank() == 0:
        write(record, folder)


def _device(config: Config) -> str:
    return torch.cuda.get_device_name() if on_gpu(config.trainer) else "cpu"
