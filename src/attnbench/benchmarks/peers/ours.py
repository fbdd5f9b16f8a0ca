"""This project as a peer: its training with its own data loading, and its decoding."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint

from attnbench.benchmarks.peers.serving import Turns
from attnbench.config import Config
from attnbench.config.root import config_from_dict
from attnbench.data.batching import Batch
from attnbench.records.lifecycle import create_record
from attnbench.tasks.base import Task
from attnbench.tasks.build import build_task
from attnbench.tasks.data import TaskData
from attnbench.tasks.optimization import build_optimizer, compute_lr_factor
from attnbench.tasks.translation import Translation
from attnbench.tasks.translation_data import TranslationData
from attnbench.training.callbacks.history import HistoryCallback
from attnbench.training.callbacks.performance import Performance
from attnbench.training.callbacks.run_record import RecordCallback
from attnbench.training.loggers import build_logger
from attnbench.training.runner import ignore_warnings
from attnbench.training.trainer import apply_compile_and_checkpointing, build_monitoring_callbacks, build_trainer


class _TurnCallback(pl.Callback):
    """Last callback: counts a batch when all other callbacks are done."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        self._turns.count_units(batch.num_units)


def train(turns: Turns, config: Config, task: Task, data: TaskData) -> None:
    """Train with the project's own trainer; with `how` = full, with all callbacks and loggers of a run.

    Args:
        turns: turns of this process.
        config: config of the run.
        task: the task.
        data: its data.
    """
    with tempfile.TemporaryDirectory() as name, ignore_warnings():
        folder = Path(name)
        callbacks: list[pl.Callback] = [Checkpoint()]  # without it Lightning adds one that saves
        tracker: Any = False
        if turns.job["how"] == "full":
            record = create_record(config, [])
            performance = Performance(window_steps=config.logger.log_every_n_steps)
            run_record = RecordCallback(record, folder, performance)
            logger = build_logger(config, record, folder)
            tracker = logger.logger
            history = HistoryCallback(folder, config.logger.log_every_n_steps, run_record, performance)
            callbacks += [performance, run_record, history, *build_monitoring_callbacks(config, performance, folder)]
        trainer = build_trainer(config, folder, tracker, [*callbacks, _TurnCallback(turns)])
        trainer.limit_val_batches = 0
        trainer.fit(task, datamodule=data)


def train_bare(turns: Turns, config: Config, task: Task, data: TaskData) -> None:
    """Train the same network on the same batches without Lightning, callbacks or logging.

    Args:
        turns: turns of this process.
        config: config of the run.
        task: the task.
        data: its data.
    """
    optimizer = build_optimizer(task.network.parameters(), config.optim, is_fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: compute_lr_factor(step, config.schedule, None))
    for batch in _iterate_batches(data):
        loss_sum = (
            cast(Translation, task)._compute_cross_entropy(batch, cast(Any, config.task).label_smoothing).loss_sum
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss_sum / batch.num_update_tokens)
        if config.optim.gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(task.network.parameters(), config.optim.gradient_clip_val)
        optimizer.step()
        schedule.step()
        turns.count_units(batch.num_units)


def _iterate_batches(data: TaskData) -> Iterator[Batch]:
    sampler = data.build_update_sampler()
    for epoch in count():
        sampler.set_epoch(epoch)
        yield from data.build_train_loader(sampler)


def decode(turns: Turns, task: Translation, data: TranslationData) -> None:
    """Translate the first test sentences repeatedly.

    Args:
        turns: turns of this process.
        task: the task.
        data: its data.
    """
    job = turns.job
    with np.load(job["weights"]) as arrays:
        task.network.load_state_dict({name: torch.from_numpy(arrays[name]) for name in task.network.state_dict()})
    task.eval()
    data.pairs["test"] = data.pairs["test"].select(np.arange(job["sentences"]))

    def everything() -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for batch in data.build_evaluation_loader("test"):
            hypotheses = task.decode(batch.source_BS, job["beam_size"])
            found |= zip(batch.indices_B.tolist(), hypotheses, strict=True)
        return [found[row] for row in sorted(found)]

    turns.run_decoding(everything)


def main() -> None:
    """Run the job until no more turns are requested."""
    turns = Turns("attnbench", "torch")
    job = turns.job
    torch.set_num_threads(job["threads"])
    config = config_from_dict(job["config"])
    torch.manual_seed(config.seed)
    task, data = build_task(config)
    apply_compile_and_checkpointing(task.network, config.trainer)
    if job["what"] == "decoding":
        decode(turns, cast(Translation, task), cast(TranslationData, data))
    elif job["how"] == "bare":
        train_bare(turns, config, task, data)
    else:
        train(turns, config, task, data)


if __name__ == "__main__":
    main()
