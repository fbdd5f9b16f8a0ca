"""Two processes, or accumulated shares, against one: the same updates, losses and scores."""

from __future__ import annotations

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


@pytest.mark.parametrize(("task", "score", "share"), TASKS)
def test_two_gloo_processes_give_what_one_gives(
    small: Small, tmp_path: Path, task: str, score: str, share: int
) -> None:
    alone = execute(small(*SURE, task=task), tmp_path / "alone", [])
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"),
        *("-m", "attnbench.train", *SMALL[task], *SURE, "trainer=ddp_cpu", "trainer.max_epochs=4"),
        *(f"paths.output={tmp_path}/two", f"paths.cache={tmp_path}/cache", "callbacks.samples=1"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    records = list((tmp_path / "two").rglob("run.json"))
    assert len(records) == 1
    together = read(records[0])
    assert together.performance["devices"] == 2
    assert_alike(together, alone, score)
    said = (records[0].parent / "outputs" / "test.hypothesis.txt").read_text().splitlines()
    assert len(said) == {"translation": 12, "classification": 20}[task]  # each example once, on whichever rank


def test_ranks_that_nobody_started_are_refused(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ConfigError, match=r"trainer\.devices=2: start the ranks with torchrun"):
        execute(small("trainer.devices=2", "trainer.strategy=ddp"), tmp_path, [])
