"""Benchmark of training: updates of whole models by the project's own training code, with data loading."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from pytorch_lightning.callbacks import Checkpoint

from attnbench.benchmarks.measurement import BenchmarkCase, Measurements, SuitePlan
from attnbench.benchmarks.results import Settings
from attnbench.config import Config
from attnbench.tasks.base import Task
from attnbench.tasks.build import build_task
from attnbench.tasks.data import TaskData
from attnbench.training.callbacks.performance import Performance
from attnbench.training.runner import ignore_warnings
from attnbench.training.trainer import build_trainer


class TrainingBenchmark:
    """Measurement of one model, built at first use; each repeat covers the same updates."""

    def __init__(self, config: Config, settings: Settings) -> None:
        self.config, self.settings = config, settings

    @cached_property
    def built(self) -> tuple[Task, TaskData]:
        """The task and its data."""
        torch.manual_seed(self.config.seed)
        return build_task(self.config)

    def measure_updates(self) -> Measurements:
        """Measure throughput and time per update after warmup, with the meter that also writes a run's record."""
        task, data = self.built
        performance = Performance(window_steps=self.settings.updates, warmup_steps=self.settings.warmup)
        with tempfile.TemporaryDirectory() as folder, ignore_warnings():
            # Without a Checkpoint callback Lightning adds one that saves.
            trainer = build_trainer(self.config, Path(folder), False, [performance, Checkpoint()])
            trainer.limit_val_batches = 0
            trainer.fit(task, datamodule=data)
        found = performance.meter.summarize()
        rate, update_ms = found["units_per_sec"], found["step_ms_p50"]
        if rate is None or update_ms is None:
            raise RuntimeError("training ended before a window of updates was full")
        return {
            f"{performance.unit_name}_per_sec": rate,
            "update_ms": update_ms,
            "loading_ms": measure_loading_ms(data),
        }


def measure_loading_ms(data: TaskData) -> float:
    """Measure the time of loading one update's batch, over an epoch, in milliseconds."""
    start = time.perf_counter()
    batches = sum(1 for _ in data.build_train_loader(data.build_update_sampler()))
    return 1e3 * (time.perf_counter() - start) / batches


def plan_suite(settings: Settings, configs: Mapping[str, Config]) -> SuitePlan:
    """Plan the suite: every model; the first model of a task is the baseline of the others."""
    data = ", ".join(dict.fromkeys(config.data.family for config in configs.values()))
    notes = [
        f"Data: {data}. {settings.updates} updates a repeat, after {settings.warmup} others that do not count;"
        f" repeats: {settings.repeats}.",
        "Loading batches is in it, and measured alone too (loading_ms, over an epoch); validation and checkpoints are"
        " not. target_tokens are without padding.",
    ]
    subjects = []
    baselines: dict[str, str] = {}
    for model, config in configs.items():
        baseline = baselines.setdefault(config.task.family, model)
        subjects.append(BenchmarkCase("", model, baseline, TrainingBenchmark(config, settings).measure_updates))
    return SuitePlan("model", notes, subjects, warmup=0)
