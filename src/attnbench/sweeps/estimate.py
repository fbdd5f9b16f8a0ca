"""Estimate what a sweep will take: number of runs, time and disk space, from a short timed run of each setting."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from attnbench.records.lifecycle import load_previous_record
from attnbench.records.record import Plan, PlannedRun, Record, Status, read_progress
from attnbench.sweeps.plan import get_sweep_folder
from attnbench.sweeps.tuning import remove_seed

MAX_TIMED_SETTINGS = 8
_TIMED_SECONDS = 6.0  # of training


@dataclass(frozen=True)
class RunCost:
    """Time and disk space of one run."""

    seconds: float
    num_bytes: int


@dataclass(frozen=True)
class SweepCost:
    """Estimated cost of the runs of a sweep that are not finished."""

    num_runs: int  # planned now; a sweep in stages adds runs
    num_finished: int
    num_later_runs: int  # largest number of runs that later stages add
    seconds: float  # wall time of the runs that are left, `workers` of them in parallel
    num_bytes: int
    num_timed: int  # settings that a short run has timed


class TimingError(Exception):
    """Raised if a short run of a setting fails; the message is the output of the run."""


def estimate_sweep(plan: Plan, num_later_runs: int, report: Callable[[str], None]) -> SweepCost:
    """Estimate the cost of a sweep.

    Finished runs of the same setting give its cost; other settings are timed by a short run, at most
    `MAX_TIMED_SETTINGS` of them.

    Args:
        plan: plan of the sweep.
        num_later_runs: number of runs that later stages add at most.
        report: prints a line about progress.

    Raises:
        TimingError: a short run failed.
    """
    folder = get_sweep_folder(plan.runs[0].config)
    records = {run.run_id: load_previous_record(folder / run.run_id) for run in plan.runs}
    settings = _group_by_setting(plan.runs)
    costs: dict[tuple[str, ...], RunCost] = {}
    for key, runs in settings.items():
        done = [one for run in runs if (one := records[run.run_id]) is not None and one.status is Status.finished]
        if done:
            costs[key] = _measure_finished(done, folder)
    untimed = [key for key in settings if key not in costs]
    step = max(1, math.ceil(len(untimed) / MAX_TIMED_SETTINGS))
    timed = untimed[::step]
    workers = plan.runs[0].config["sweep"]["workers"]
    if timed:
        report(f"timing {len(timed)} of {len(settings)} settings, some seconds each")
    with ThreadPoolExecutor(workers) as pool:  # as many at once as in the sweep, because runs slow each other down
        costs |= dict(zip(timed, pool.map(_time_run, [settings[key][0] for key in timed]), strict=True))
    mean = RunCost(fmean(cost.seconds for cost in costs.values()), round(fmean(c.num_bytes for c in costs.values())))
    left = [
        (key, run)
        for key, runs in settings.items()
        for run in runs
        if (record := records[run.run_id]) is None or record.status is not Status.finished
    ]
    seconds = sum(costs.get(key, mean).seconds for key, _ in left) + num_later_runs * mean.seconds
    num_bytes = sum(costs.get(key, mean).num_bytes for key, _ in left) + num_later_runs * mean.num_bytes
    return SweepCost(
        len(plan.runs), len(plan.runs) - len(left), num_later_runs, seconds / workers, num_bytes, len(timed)
    )


def _group_by_setting(runs: Sequence[PlannedRun]) -> dict[tuple[str, ...], list[PlannedRun]]:
    """Group runs that differ only in their seed."""
    groups: dict[tuple[str, ...], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(tuple(remove_seed(run.overrides)), []).append(run)
    return groups


def _measure_finished(records: Sequence[Record], folder: Path) -> RunCost:
    seconds = [float(record.time["train_seconds"]) for record in records]
    sizes = [_measure_size(folder / record.run_id) for record in records]
    return RunCost(fmean(seconds), round(fmean(sizes)))


def _time_run(run: PlannedRun) -> RunCost:
    """Train a run for some seconds in a temporary folder, and extrapolate to all updates."""
    with tempfile.TemporaryDirectory(prefix="attnbench-plan-") as temporary:
        own = [line for line in run.overrides if not line.startswith(("sweep.", "paths.output="))]
        added = [
            f"trainer.max_minutes={_TIMED_SECONDS / 60}", "logger=none", "sweep.name=timing",
            f"paths.output={temporary}",
        ]  # fmt: skip
        workers = run.config["sweep"]["workers"]
        if run.config["trainer"]["num_threads"] is None and workers > 1:
            added.append("trainer.num_threads=1")
        started = time.monotonic()
        command = [sys.executable, "-m", "attnbench", "train", *own, *added]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        elapsed = time.monotonic() - started
        folder = next((Path(temporary) / "timing").glob("*"), None)
        record = None if folder is None else load_previous_record(folder)
        if folder is None or record is None or record.status is not Status.finished:
            raise TimingError(done.stderr.strip() or done.stdout.strip())
        progress, step_ms = read_progress(folder), record.performance.get("step_ms_p50")
        update = int(record.metrics["final"]["update"])
        total = update if progress is None or progress[1] is None else progress[1]
        # Start-up, validation and test are not repeated; updates are.
        more = 0.0 if step_ms is None else max(0, total - update) * step_ms / 1000
        return RunCost(elapsed + more, _measure_size(folder))


def _measure_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
