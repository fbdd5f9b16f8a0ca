"""Two processes, or accumulated shares, against one: the same updates, losses and scores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.records import history
from attnbench.records.record import Record, read_record
from attnbench.training.runner import run_training

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
    whole = run_training(small(*SURE, task=task), tmp_path / "whole", [])
    shares = run_training(small(*SURE, f"trainer.micro_batch_size={share}", task=task), tmp_path / "shares", [])
    assert_alike(shares, whole, score)


def command(*arguments: str | Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def on_two_ranks(folder: Path, task: str) -> list[str]:
    return [
        *(*SMALL[task], *SURE, "trainer=ddp_cpu", "trainer.max_epochs=4", "callbacks.samples=1"),
        *("logger.log_every_n_steps=2", f"paths.output={folder}", f"paths.cache={folder}/cache"),
    ]


def test_a_sweep_of_runs_on_two_ranks_each_is_that_of_runs_on_one(small: Small, tmp_path: Path) -> None:
    arguments = on_two_ranks(tmp_path / "two", "translation")
    command("-m", "attnbench.train", "-m", *arguments, "seed=1,2,3", "logger=wandb")
    records = {read_record(path).seed: path.parent for path in (tmp_path / "two").glob("*/*/run.json")}
    assert sorted(records) == [1, 2, 3]
    assert all(len(list(folder.glob("wandb/offline-run-*"))) == 1 for folder in records.values())
    assert len(list((tmp_path / "two").rglob("offline-run-*"))) == 3 + 1  # and the summary of the sweep
    alone = run_training(small(*SURE, "logger.log_every_n_steps=2"), tmp_path / "alone", [])
    found = read_record(records[1] / "run.json")
    assert found.performance["devices"] == 2
    assert len(found.performance["forward_ms_p50_by_rank"]) == 2
    assert found.performance["slowest_rank"] >= 1
    assert_alike(found, alone, "bleu")
    curve, expected = (
        [
            (line["update"], line["train/loss"], line["units"])
            for line in history.read_history(folder)
            if "train/loss" in line
        ]
        for folder in (records[1], tmp_path / "alone")
    )
    assert len(expected) > 3
    assert curve == [pytest.approx(point, rel=1e-4) for point in expected]
    said = (records[1] / "outputs" / "test.hypothesis.txt").read_text().splitlines()
    assert len(said) == 12  # each sentence once, on whichever rank


def test_a_single_run_starts_its_ranks_and_each_may_keep_a_share_of_the_model(small: Small, tmp_path: Path) -> None:
    fsdp = ["trainer.strategy=fsdp", "trainer.final_weights=best", "trainer.activation_checkpointing=true"]
    command("-m", "attnbench.train", *on_two_ranks(tmp_path / "two", "classification"), *fsdp)
    (path,) = (tmp_path / "two").rglob("run.json")
    alone = run_training(small(*SURE, "trainer.final_weights=best", task="classification"), tmp_path / "alone", [])
    assert read_record(path).performance["devices"] == 2
    assert_alike(read_record(path), alone, "accuracy")
    assert len((path.parent / "outputs" / "test.hypothesis.txt").read_text().splitlines()) == 20


@pytest.mark.slow
def test_torchrun_may_start_the_ranks(small: Small, tmp_path: Path) -> None:
    how = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m"]
    command(*how, "attnbench.train", *on_two_ranks(tmp_path / "two", "translation"))
    (path,) = (tmp_path / "two").rglob("run.json")
    assert_alike(read_record(path), run_training(small(*SURE), tmp_path / "alone", []), "bleu")


def test_ranks_that_nobody_started_are_refused(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ConfigError, match=r"trainer\.devices=2: expected ranks: attnbench train"):
        run_training(small("trainer.devices=2", "trainer.strategy=ddp"), tmp_path, [])
