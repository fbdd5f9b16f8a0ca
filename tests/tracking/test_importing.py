"""Records of what W&B has: the same numbers, and said to be imported."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from attnbench import import_wandb
from attnbench.records.identity import config_to_dict
from attnbench.records.record import Record, Status, read_record, read_records
from attnbench.reporting.tables import write_tables
from attnbench.sweeps.plan import compose_run
from attnbench.tracking import importing

# W&B keeps 0.0 as 0.
SUMMARY = {
    "best/bleu": 0, "best/update": 8, "test/bleu": 12, "test/by_source_words": {"1-5": {"bleu": 0, "sentences": 8}},
    "performance/step_ms_p50": 2.5, "performance/mfu": None, "parameters/total": 10, "val/bleu": {"max": 1.0},
}  # fmt: skip
VALIDATIONS = [
    {"trainer/global_step": 7, "epoch": 0, "val/bleu": 1},
    {"trainer/global_step": 15, "epoch": 1, "val/bleu": 0.5},
]


@cache
def config() -> dict[str, Any]:
    return config_to_dict(compose_run(["seed=3", "sweep.name=far"]))


def logged(run_id: str, exit_code: int | None = 0, **other: Any) -> list[dict[str, Any]]:
    """Lines as W&B's reader gives them."""
    update = {"_wandb": {}, **config(), **other}
    run = {"run_id": run_id, "project": "p", "run_group": "far", "start_time": "2026", "config": {"update": update}}
    found: list[dict[str, Any]] = [{"type": "header", "header": {}}, {"type": "run", "run": run}]
    found += [{"type": "history", "history": {"item": item}} for item in [{"train/loss": 1.0}, *VALIDATIONS]]
    found += [{"type": "summary", "summary": {"update": SUMMARY}}]
    return found + ([] if exit_code is None else [{"type": "exit", "exit": {"exit_code": exit_code, "runtime": 9}}])


def leave(folder: Path, run_ids: list[str]) -> None:
    for run_id in run_ids:
        path = folder / run_id / f"offline-run-20260101_100000-{run_id}" / f"run-{run_id}.wandb"
        path.parent.mkdir(parents=True)
        path.touch()


def test_offline_runs_become_records_that_are_tabulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"aa": logged("aa"), "bb": logged("bb", 1), "cc": logged("cc", None), "dd": logged("dd", model="small")}
    leave(tmp_path / "theirs", [*files, "summary-0"])
    monkeypatch.setattr(importing, "read_lines", lambda path: files.get(path.parent.parent.name, logged("summary-0")))
    command = [str(tmp_path / "theirs"), "--output", str(tmp_path / "ours")]
    assert import_wandb.main(command) == 1
    said = capsys.readouterr()
    assert f"3 records made in {tmp_path / 'ours'}, 0 there before, 1 refused" in said.out
    assert said.err.endswith("run-dd.wandb: not a run of attnbench: its config has no model\n")
    records, problems = read_records(tmp_path / "ours" / "far")
    assert not problems
    finished, failed, cut = records
    assert [record.status for record in records] == [Status.finished, Status.failed, Status.interrupted]
    assert_same_numbers(finished)
    assert failed.error is not None
    assert failed.error["message"] == "W&B has exit code 1"
    assert cut.error is not None
    assert cut.error["message"] == "W&B has no word of its end"
    assert "imported from W&B" in write_tables(tmp_path / "ours" / "far", tmp_path / "none")
    assert import_wandb.main(command) == 1
    assert "0 records made" in capsys.readouterr().out


def assert_same_numbers(record: Record) -> None:
    assert record.config == config()
    assert record.metrics["final"] == {"update": 16, "epoch": 2, "bleu": 0.5}
    assert record.metrics["test"] == {"bleu": 12.0, "by_source_words": {"1-5": {"bleu": 0.0, "sentences": 8}}}
    assert type(record.metrics["best"]["bleu"]) is float
    assert type(record.metrics["best"]["update"]) is int
    assert (record.performance, record.parameters) == ({"step_ms_p50": 2.5, "mfu": None}, {"total": 10})


def test_a_project_is_read_by_wandbs_own_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = SimpleNamespace(
        id="aa", project="p", group="far", commit="c0ffee", created_at="2026", state="finished", config=config(),
        summary=SUMMARY, scan_history=lambda: iter([{"train/loss": 1.0}, *VALIDATIONS]),
    )  # fmt: skip
    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(runs=lambda project: [run] if project == "us/p" else []))
    assert import_wandb.main(["us/p", "--output", str(tmp_path)]) == 0
    record = read_record(tmp_path / "far" / "aa" / "run.json")
    assert_same_numbers(record)
    assert record.provenance["git"]["commit"] == "c0ffee"
    assert record.tracker is not None
    assert record.tracker["from"] == "us/p/aa"


@pytest.mark.parametrize(
    ("source", "said"),
    [("nowhere", "no such folder, and no project"), (".", "no W&B runs here"), ("us/p", "W&B did not answer: no key")],
)
def test_what_cannot_be_read_is_a_sentence(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise wandb.errors.UsageError("no key\nand more")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wandb, "Api", refuse)
    assert import_wandb.main([source]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
