"""Two processes, or accumulated shares, against one: the same updates, losses and scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.record import Record, read
from attnbench.tasks.run import execute

from .conftest import SMALL, Small

SURE = ["model.dropout=0", "trainer.final_weights=last"]  # ranks draw different dropout masks
# A task, its score, and a share of its update.
TASKS = [("translation", "bleu", 64), ("classification", "accuracy", 8)]


def assert_alike(found: Record, expected: Record, score: str) -> None:
    for part in ("final", "test"):
        assert found.metrics[part]["loss"] == pytest.approx(expected.metrics[part]["loss"], rel=1e-4)
        assert found.metrics[part][score] == pytest.approx(expected.metrics[part][score], abs=1e-6)
    assert found.metrics["final"]["update"] == expected.metrics["final"]["update"]
    assert found.run_id == expected.run_id


@pytest.mark.parametrize(("task", "score", "share"), TASKS)
def test_accumulated_shares_give_the_same_updates(
    small: Small, tmp_path: Path, task: str, score: str, share: int
) -> None:
    whole = execute(small(*SURE, task=task), tmp_path / "whole", [])
    shares = execute(small(*SURE, f"trainer.micro_batch={share}", task=task), tmp_path / "shares", [])
    assert_alike(shares, whole, score)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each task's run on two ranks: all that takes an interpreter with everything imported, in one."""
    folder = tmp_path_factory.mktemp("ranks")
    commands = [
        [
            *(*SMALL[task], *SURE, "trainer=ddp_cpu", "trainer.max_epochs=4", "callbacks.samples=1"),
            *(f"paths.output={folder / task}", f"paths.cache={folder}/cache"),
        ]
        for task, _, _ in TASKS
    ]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("torchrun.py")],
        input=json.dumps(commands), capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.mark.parametrize(("task", "score", "share"), TASKS)
def test_two_gloo_processes_give_what_one_gives(
    small: Small, tmp_path: Path, together: Path, task: str, score: str, share: int
) -> None:
    alone = execute(small(*SURE, task=task), tmp_path / "alone", [])
    records = list((together / task).rglob("run.json"))
    assert len(records) == 1
    found = read(records[0])
    assert found.performance["devices"] == 2
    assert_alike(found, alone, score)
    said = (records[0].parent / "outputs" / "test.hypothesis.txt").read_text().splitlines()
    assert len(said) == {"translation": 12, "classification": 20}[task]  # each example once, on whichever rank


def test_ranks_that_nobody_started_are_refused(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ConfigError, match=r"trainer\.devices=2: start the ranks with torchrun"):
        execute(small("trainer.devices=2", "trainer.strategy=ddp"), tmp_path, [])
