"""Build Lightning's Trainer and its callbacks from a config."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import EarlyStopping, Timer
from torch import nn

from attnbench.config import Config, ConfigError, Fault
from attnbench.config.targets import import_target
from attnbench.config.trainer import FinalWeights, Precision, Strategy, TrainerConfig
from attnbench.nn.activation_checkpointing import apply_activation_checkpointing
from attnbench.records.ranks import get_rank_context, get_world_size
from attnbench.tasks.base import Task
from attnbench.training.callbacks.performance import Performance
from attnbench.training.callbacks.pictures import FigureCallback
from attnbench.training.callbacks.progress import ProgressCallback
from attnbench.training.callbacks.pruning import PruningCallback
from attnbench.training.callbacks.resumable import ResumableCheckpoint
from attnbench.training.callbacks.samples import SampleCallback
from attnbench.training.checkpointing import (
    LAST_CHECKPOINT,
    AtomicCheckpointIO,
    MovableCheckpoint,
)
from attnbench.training.distributed import FullyShardedStrategy, uses_gpu
from attnbench.training.optuna_trial import build_reporter


def apply_compile_and_checkpointing(network: nn.Module, trainer_config: TrainerConfig) -> None:
    """Apply activation checkpointing and torch.compile to the network, as the config says.

    Args:
        network: the network.
        trainer_config: options of the trainer.
    """
    if trainer_config.activation_checkpointing:
        apply_activation_checkpointing(network)
    if trainer_config.compile:
        network.compile(dynamic=True)


def build_monitoring_callbacks(config: Config, performance: Performance, folder: Path) -> list[pl.Callback]:
    """Build the callbacks that observe training and do not change it.

    Args:
        config: config of the run.
        performance: callback that measures throughput.
        folder: folder of the run.
    """
    chosen = config.callbacks
    found: list[pl.Callback] = []
    if chosen.progress_bar:
        found.append(ProgressCallback(performance))
    if chosen.samples:
        found.append(SampleCallback(folder, chosen.samples))
    if chosen.pictures:
        found.append(FigureCallback(folder / "pictures", chosen.probe_size, chosen.pictures_every_validations))
    for target in chosen.targets:
        callback = import_target(target, "callbacks.targets")()
        if not isinstance(callback, pl.Callback):
            raise ConfigError([Fault("callbacks.targets", target, "expected a subclass of pytorch_lightning.Callback")])
        found.append(callback)
    if config.sweep.study is not None and config.sweep.trial is not None:
        found.append(PruningCallback(*build_reporter(folder.parent, config.sweep.study, config.sweep.trial)))
    return found


def build_checkpoint_callbacks(config: Config, task: Task, folder: Path) -> list[pl.Callback]:
    """Build the callbacks that stop training and write checkpoints.

    The resumable checkpoint is last, so that it holds the state of all others.

    Args:
        config: config of the run.
        task: the task.
        folder: folder of the run.
    """
    chosen, checkpoints = config.trainer, folder / LAST_CHECKPOINT.parent
    found: list[pl.Callback] = []
    if chosen.max_minutes is not None:
        found.append(Timer(duration=datetime.timedelta(minutes=chosen.max_minutes), verbose=False))
    if chosen.patience is not None:
        found.append(EarlyStopping(task.monitor, mode=task.monitor_mode, patience=chosen.patience))
    common: dict[str, Any] = {
        "dirpath": checkpoints,
        "enable_version_counter": False,
        "save_weights_only": True,
        # Saved at the end of a validation, before the resumable checkpoint, which stores its state.
        "save_on_train_epoch_end": False,
    }
    if chosen.final_weights is FinalWeights.best:
        found.append(MovableCheckpoint(filename="best", monitor=task.monitor, mode=task.monitor_mode, **common))
    elif chosen.final_weights is FinalWeights.average:
        recent = MovableCheckpoint(
            filename="recent-{step}", monitor="step", mode="max", save_top_k=chosen.average_last, **common
        )
        found.append(recent)
    return [*found, ResumableCheckpoint(folder / LAST_CHECKPOINT, chosen.save_every_minutes)]


def count_micro_batches(config: Config) -> int:
    """Return the number of batches per update on a device, such that none exceeds `trainer.micro_batch_size`."""
    limit = config.trainer.micro_batch_size
    if limit is None:
        return 1
    return math.ceil(config.data.max_update_size / (limit * config.trainer.devices * config.trainer.num_nodes))


def build_trainer(config: Config, folder: Path, logger: Any, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Build Lightning's Trainer.

    Args:
        config: config of the run.
        folder: folder of the run.
        logger: logger for Lightning, or False.
        callbacks: all callbacks.
    """
    chosen, debug = config.trainer, config.debug
    if chosen.precision is Precision["16-mixed"] and not uses_gpu(chosen):  # Lightning would compute in bf16 instead
        raise ConfigError([Fault("trainer.precision", "16-mixed", "expected bf16-mixed or 32-true: fp16 needs a GPU")])
    checkpoints = AtomicCheckpointIO(count_micro_batches(config))
    plugins: list[Any] = [checkpoints]
    if get_rank_context() is not None or get_world_size() == 1:
        plugins.append(LightningEnvironment())  # independent of environment variables of clusters
    strategy: Any = chosen.strategy.name
    if chosen.strategy is Strategy.fsdp:
        strategy = FullyShardedStrategy(chosen.devices * chosen.num_nodes, checkpoints)
    trainer = pl.Trainer(
        accelerator=chosen.accelerator.name,
        devices=chosen.devices,
        num_nodes=chosen.num_nodes,
        strategy=strategy,
        precision=chosen.precision.name,  # type: ignore[arg-type]
        max_epochs=chosen.max_epochs if chosen.max_epochs is not None else -1,
        max_steps=chosen.max_steps if chosen.max_steps is not None else -1,
        accumulate_grad_batches=count_micro_batches(config),
        check_val_every_n_epoch=chosen.check_val_every_n_epoch,
        limit_train_batches=debug.limit_batches,
        limit_val_batches=debug.limit_batches,
        limit_test_batches=debug.limit_batches,
        detect_anomaly=debug.detect_anomaly,
        log_every_n_steps=config.logger.log_every_n_steps,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        plugins=plugins,
        logger=logger or False,  # None would select TensorBoard or CSV
        callbacks=callbacks,
    )
    # attnbench handles signals; Lightning's handler would stop in the middle of an update.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer
