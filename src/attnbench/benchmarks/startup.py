"""From a command to its answer: fresh interpreters, as a person starts them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from attnbench.benchmarks.measurement import Numbers, Plan, Subject
from attnbench.benchmarks.results import Settings
from attnbench.records.lifecycle import create_record
from attnbench.records.record import PROGRESS_FILE, write_record
from attnbench.sweeps.plan import compose_run

_BASELINE = "python -c pass"
_PATIENCE = 600.0  # seconds after which a command is taken to hang
_LOOK_EVERY = 0.01  # seconds
TRAIN = ("-m", "attnbench.train")


def plan(settings: Settings) -> Plan:
    """The doors, from the quickest answer to the first update of training."""
    asked: dict[str, Callable[[], Numbers]] = {
        _BASELINE: partial(answer, ["-c", "pass"]),
        "train --help": partial(answer, [*TRAIN, "--help"]),
        "train --cfg job": partial(answer, [*TRAIN, "--cfg", "job"]),
        "train, refused": partial(answer, [*TRAIN, "model.num_heads=7"], status=2),
        "table of one run": table,
        "train, to the first update": first_update,
    }
    notes = [
        f"A fresh interpreter each time; repeats: {settings.repeats}, the first among them.",
        "train, to the first update: synthetic language, logger=none; until the first batch of training begins.",
    ]
    return Plan("", notes, [Subject("", name, _BASELINE, run) for name, run in asked.items()], warmup=0)


def answer(arguments: Sequence[str], status: int = 0) -> Numbers:
    """Seconds until `python <arguments>`, in a folder of its own, has ended with `status`.

    Raises:
        RuntimeError: it ended with another status.
        subprocess.TimeoutExpired: it does not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
        taken = time.perf_counter() - start
    _refuse(done.returncode, status, done.stderr)
    return {"seconds": taken}


def table() -> Numbers:
    """Seconds of the door to tables, which finds the record of a run that has begun."""
    with tempfile.TemporaryDirectory() as folder:
        config = compose_run(["sweep.name=bench"])
        write_record(create_record(config, []), Path(folder, "bench", "run"))
        return answer(["-m", "attnbench.table", "bench", "--output", folder, "--experiments", folder])


def first_update() -> Numbers:
    """Seconds until a run's folder has word of its progress, which the run leaves when training begins."""
    with tempfile.TemporaryDirectory() as folder, Path(folder, "stderr").open("w+") as said:
        overrides = [f"paths.output={folder}/runs", f"paths.cache={folder}/cache", "logger=none", "callbacks=quiet"]
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, *TRAIN, *overrides], cwd=folder, stdout=said, stderr=said)
        try:
            while not any(Path(folder, "runs").glob(f"*/*/{PROGRESS_FILE}")):
                if child.poll() is not None:
                    said.seek(0)
                    _refuse(child.returncode, None, said.read())
                if time.perf_counter() - start > _PATIENCE:
                    raise RuntimeError(f"no update within {_PATIENCE:.0f} seconds")
                time.sleep(_LOOK_EVERY)
            return {"seconds": time.perf_counter() - start}
        finally:
            child.kill()
            child.wait()


def _refuse(status: int, expected: int | None, said: str) -> None:
    if status != expected:
        last = said.strip().splitlines()[-1:] or ["nothing said"]
        raise RuntimeError(f"ended with status {status}: {last[0]}")
