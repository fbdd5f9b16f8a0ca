"""What training gains from more devices: the same updates, divided among the processes that have one each."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from attnbench.benchmarks.configs import commands
from attnbench.benchmarks.measurement import Numbers, Plan, Subject
from attnbench.benchmarks.results import Settings
from attnbench.benchmarks.startup import TRAIN, answer
from attnbench.metrics.throughput import WARMUP_STEPS
from attnbench.records.identity import count_cores
from attnbench.records.record import read_records


def plan(settings: Settings) -> Plan:
    """A group a model; one, two, four ... devices and all of them, as far as there are any.

    Raises:
        ConfigError: with every fault of every model.
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
    for model, command in commands(settings).items():
        counts = _counts(there)
        names = {count: f"{count} x {each}" for count in counts}
        for count, name in names.items():
            run = partial(sample, [*command, *where, f"trainer.devices={count}"])
            subjects.append(Subject(model, name, names[1], run))
    return Plan("model", notes, subjects, warmup=0)


def sample(command: Sequence[str]) -> Numbers:
    """Throughput over all devices, time of an update and memory of a process, by a run's own record."""
    with tempfile.TemporaryDirectory() as folder:
        answer([*TRAIN, *command, f"paths.output={folder}", f"paths.cache={folder}/cache"])
        (record,), _ = read_records(Path(folder))
    found = record.performance
    rates = {key: found[key] for key in found if key.endswith("_per_sec_global")}
    memory = {key: found[key] for key in ("peak_rss_gib", "peak_reserved_gib") if key in found}
    return rates | {"update_ms": found["step_ms_p50"]} | memory


def _counts(there: int) -> list[int]:
    """1, 2, 4 ... and `there`."""
    return sorted({2**power for power in range(there.bit_length())} & set(range(1, there + 1)) | {max(1, there)})
