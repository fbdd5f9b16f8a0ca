"""Benchmark of several devices: the same updates, divided among one process per device."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from attnbench.benchmarks.configs import build_device_commands
from attnbench.benchmarks.measurement import BenchmarkCase, Measurements, SuitePlan
from attnbench.benchmarks.results import Settings
from attnbench.benchmarks.startup import TRAIN_COMMAND, measure_command
from attnbench.metrics.throughput import WARMUP_STEPS
from attnbench.records.identity import count_cores
from attnbench.records.record import read_records


def plan_suite(settings: Settings) -> SuitePlan:
    """Plan the suite: one group per model; 1, 2, 4 ... and all devices.

    Raises:
        ConfigError: with all faults of all models.
    """
    gpu = settings.device == "cuda"
    there = torch.cuda.device_count() if gpu else count_cores() // (settings.threads or 1)
    where = ["trainer=ddp"] if gpu else ["trainer=ddp_cpu", f"trainer.num_threads={settings.threads or 1}"]
    each = "GPU" if gpu else f"CPU, {settings.threads or 1} thread a process"
    notes = [
        f"Runs of their own, by {' '.join(where)}: {settings.updates} updates after {WARMUP_STEPS} others that do not"
        f" count; repeats: {settings.repeats}. Whole updates are the same: each device takes a share of every batch.",
        "tokens and images are those of all devices together, without padding; twice the devices give twice as many at"
        " best. Cores may be threads that share the arithmetic of one.",
    ]
    subjects = []
    for model, command in build_device_commands(settings).items():
        counts = _list_device_counts(there)
        names = {count: f"{count} x {each}" for count in counts}
        for count, name in names.items():
            run = partial(measure_run, [*command, *where, f"trainer.devices={count}"])
            subjects.append(BenchmarkCase(model, name, names[1], run))
    return SuitePlan("model", notes, subjects, warmup=0)


def measure_run(command: Sequence[str]) -> Measurements:
    """Run a training, and read throughput of all devices, time per update and memory per process from its record.

    Args:
        command: overrides of `attnbench train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        measure_command([*TRAIN_COMMAND, *command, f"paths.output={folder}", f"paths.cache={folder}/cache"])
        (record,), _ = read_records(Path(folder))
    found = record.performance
    rates = {key: found[key] for key in found if key.endswith("_per_sec_global")}
    memory = {key: found[key] for key in ("peak_rss_gib", "peak_reserved_gib") if key in found}
    return rates | {"update_ms": found["step_ms_p50"]} | memory


def _list_device_counts(num_devices: int) -> list[int]:
    """Return 1, 2, 4 ... and the number of devices."""
    return sorted(
        {2**power for power in range(num_devices.bit_length())} & set(range(1, num_devices + 1)) | {max(1, num_devices)}
    )
