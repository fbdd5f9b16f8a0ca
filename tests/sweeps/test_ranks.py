"""The ranks of a run: started by its supervisor, ended with each other, refused where nobody can start them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType

import pytest

from attnbench.records.ranks import check_rank_count
from attnbench.records.record import RECORD_FILE, Status, read_record
from attnbench.sweeps import processes
from attnbench.sweeps.display import Outcome
from attnbench.sweeps.supervisor import supervise


def run(folder: Path, fakes: ModuleType, name: str, **sweep: object) -> list[Outcome]:
    (job,) = fakes.jobs(folder, getattr(fakes, name), **sweep)
    config = dataclasses.replace(job.config, trainer=dataclasses.replace(job.config.trainer, devices=2))
    return supervise(
        [dataclasses.replace(job, config=config, args=(config, *job.args[1:]))], 1, print_function=lambda _: None
    )


def test_each_rank_knows_its_place_and_all_meet(tmp_path: Path, fakes: ModuleType) -> None:
    assert run(tmp_path, fakes, "meet_ranks") == [Outcome.finished]
    assert [(tmp_path / "0" / f"rank{rank}").read_text() for rank in (0, 1)] == ["0 of 2, 4711", "1 of 2, 4711"]


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("second_raises", "raised", "rank 1: boom"),
        ("second_killed", "killed", r"rank 1: killed by signal 9"),
        ("second_diverges", "diverged", "rank 1: the loss is nan"),
    ],
)
def test_the_record_says_which_rank_drew_the_others_along(
    tmp_path: Path, fakes: ModuleType, name: str, kind: str, said: str
) -> None:
    assert run(tmp_path, fakes, name) == [Outcome.failed]
    record = read_record(tmp_path / "0" / RECORD_FILE)
    assert record.status is Status.failed
    assert record.error is not None
    assert record.error["kind"] == kind
    assert record.error["message"].startswith(said)


def test_a_rank_that_waits_for_one_that_is_gone_is_killed(
    tmp_path: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.1)
    assert run(tmp_path, fakes, "first_waits_forever") == [Outcome.failed]
    error = read_record(tmp_path / "0" / RECORD_FILE).error
    assert error is not None
    assert error["message"] == "rank 1: boom"


def test_a_run_whose_rank_goes_nowhere_is_killed(tmp_path: Path, fakes: ModuleType) -> None:
    assert run(tmp_path, fakes, "second_stops", hang_timeout_minutes=0.005) == [Outcome.failed]
    error = read_record(tmp_path / "0" / RECORD_FILE).error
    assert error is not None
    assert error["kind"] == "hung"


@pytest.mark.parametrize(
    ("devices", "nodes", "world", "multirun", "said"),
    [
        (2, 1, None, True, None),
        (4, 1, "4", False, None),
        (2, 1, "4", False, "trainer.devices=2: torchrun has started 4 ranks"),
        (2, 1, "2", True, "trainer.devices=2: -m starts ranks itself: leave torchrun out"),
        (2, 3, None, False, "trainer.num_nodes=3: start the ranks on each node with torchrun --nnodes 3"),
    ],
)
def test_ranks_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, devices: int, nodes: int, world: str | None, multirun: bool, said: str | None
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    fault = check_rank_count(devices, nodes, is_multirun=multirun)
    assert (fault is None) if said is None else str(fault).startswith(said)
