"""The same sweep by every launcher leaves the same records, with real runs: minutes, for torch starts in each job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from attnbench.records.record import RECORD_FILE, Record, Status, read_record
from attnbench.sweeps.lease import find_holder

pytestmark = pytest.mark.slow
SMALL = [
    "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2", "trainer.accelerator=cpu", "trainer.num_threads=1",
    "logger=none", "callbacks=quiet", "model.depth=1", "model.d_model=16", "model.d_ff=32", "model.num_heads=2",
    "model.dropout=0.2", "data.train_pairs=96", "data.val_pairs=12", "data.test_pairs=12", "data.batch_tokens=256",
    "data.clauses=1", "task.beam_size=2", "task.max_extra=4", "sweep.name=small",
]  # fmt: skip


def sweep(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    cwd.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "attnbench.train", "-m", *SMALL, *arguments]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def records(cwd: Path, *arguments: str) -> dict[str, Record]:
    running = sweep(cwd, *arguments)
    said, _ = running.communicate(timeout=900)
    assert running.returncode == 0, said
    return {path.parent.name: read_record(path) for path in cwd.glob(f"multirun/small/*/{RECORD_FILE}")}


def told_alike(found: dict[str, Record]) -> dict[str, tuple[Any, ...]]:
    """Of each record all but clocks, speeds and the words in which its folder was named."""
    return {key: (one.status, one.metrics, one.overrides, one.config, one.parameters) for key, one in found.items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    return records(tmp_path_factory.mktemp("plain"), "seed=1,2")


@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_the_same_sweep_leaves_the_same_records(launcher: str, plain: dict[str, Record], tmp_path: Path) -> None:
    found = records(tmp_path, "seed=1,2", f"hydra/launcher={launcher}")
    assert len(found) == 2
    assert told_alike(found) == told_alike(plain)


def test_a_run_preempted_in_its_training_ends_with_the_same_metrics(tmp_path: Path) -> None:
    long = ("seed=1", "trainer.max_epochs=60", "trainer.save_every_minutes=0.001")
    (undisturbed,) = records(tmp_path / "undisturbed", *long).values()
    running = sweep(tmp_path / "preempted", *long, "hydra/launcher=submitit_local")
    folder = tmp_path / "preempted" / "multirun" / "small" / undisturbed.run_id
    while not list(folder.glob("checkpoints/last*")):
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.01)
    holder = find_holder(folder)
    assert holder is not None
    os.kill(next(iter(holder.processes)), signal.SIGUSR1)
    said, _ = running.communicate(timeout=900)
    assert running.returncode == 0, said
    record = read_record(folder / RECORD_FILE)
    assert (record.status, record.attempts) == (Status.finished, 2)
    assert record.metrics == undisturbed.metrics
