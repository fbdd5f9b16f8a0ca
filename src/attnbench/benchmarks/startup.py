"""Benchmark of commands in fresh interpreters, from start to result."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from attnbench.benchmarks.measurement import BenchmarkCase, Measurements, SuitePlan
from attnbench.benchmarks.results import Settings
from attnbench.records.lifecycle import create_record
from attnbench.records.record import PROGRESS_FILE, write_record
from attnbench.sweeps.plan import compose_run

_BASELINE = "python -c pass"
_TIMEOUT_SECONDS = 600.0  # a command that takes longer is stopped
_POLL_SECONDS = 0.01  # seconds
TRAIN_COMMAND = ("-m", "attnbench.train")


def plan_suite(settings: Settings) -> SuitePlan:
    """Plan the suite: commands from the fastest to the first training update."""
    commands: dict[str, Callable[[], Measurements]] = {
        _BASELINE: partial(measure_command, ["-c", "pass"]),
        "train --help": partial(measure_command, [*TRAIN_COMMAND, "--help"]),
        "train --cfg job": partial(measure_command, [*TRAIN_COMMAND, "--cfg", "job"]),
        "train, refused": partial(measure_command, [*TRAIN_COMMAND, "model.num_heads=7"], status=2),
        "table of one run": measure_table,
        "train, to the first update": measure_first_update,
    }
    notes = [
        f"A fresh interpreter each time; repeats: {settings.repeats}, the first among them.",
        "train, to the first update: synthetic language, logger=none; until the first batch of training begins.",
    ]
    return SuitePlan("", notes, [BenchmarkCase("", name, _BASELINE, run) for name, run in commands.items()], warmup=0)


def measure_command(arguments: Sequence[str], status: int = 0) -> Measurements:
    """Measure the time of `python <arguments>` in an empty folder, in seconds.

    Args:
        arguments: arguments of the interpreter.
        status: expected exit status.

    Raises:
        RuntimeError: the command ended with another status.
        subprocess.TimeoutExpired: the command does not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        taken = time.perf_counter() - start
    _check_status(done.returncode, status, done.stderr)
    return {"seconds": taken}


def measure_table() -> Measurements:
    """Measure the table command for one run that has just started."""
    with tempfile.TemporaryDirectory() as folder:
        config = compose_run(["sweep.name=bench"])
        write_record(create_record(config, []), Path(folder, "bench", "run"))
        return measure_command(["-m", "attnbench.table", "bench", "--output", folder, "--experiments", folder])


def measure_first_update() -> Measurements:
    """Measure the time until training starts, which is when the run writes its progress file."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "stderr").open("w+") as log:
        overrides = [f"paths.output={folder}/runs", f"paths.cache={folder}/cache", "logger=none", "callbacks=quiet"]
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, *TRAIN_COMMAND, *overrides], cwd=folder, stdout=log, stderr=log)
        try:
            while not any(Path(folder, "runs").glob(f"*/*/{PROGRESS_FILE}")):
                if child.poll() is not None:
                    log.seek(0)
                    _check_status(child.returncode, None, log.read())
                if time.perf_counter() - start > _TIMEOUT_SECONDS:
                    raise RuntimeError(f"no update within {_TIMEOUT_SECONDS:.0f} seconds")
                time.sleep(_POLL_SECONDS)
            return {"seconds": time.perf_counter() - start}
        finally:
            child.kill()
            child.wait()


def _check_status(status: int, expected: int | None, output: str) -> None:
    """Check the exit status of a command.

    Raises:
        RuntimeError: it is not the expected one; the message has the last line of output.
    """
    if status != expected:
        last = output.strip().splitlines()[-1:] or ["nothing said"]
        raise RuntimeError(f"ended with status {status}: {last[0]}")
