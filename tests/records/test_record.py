from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from attnbench.records.record import (
    PLAN_FILE,
    PROGRESS_FILE,
    RECORD_FILE,
    SCHEMA_VERSION,
    Plan,
    PlannedRun,
    Record,
    RecordError,
    Status,
    build_dataclass,
    read_plan,
    read_progress,
    read_record,
    read_records,
    write_progress,
    write_record,
)


def a_record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": "0123456789ab",
        "name": "experiment",
        "sweep": "sweep",
        "status": Status.finished,
        "config": {"model": {"depth": 2, "tie_embeddings": None, "dropout": 0.1}, "seed": 1},
        "overrides": ["model.depth=2"],
        "seed": 1,
        "provenance": {"git": None},
        "parameters": {"total": 10, "trainable": 9},
        "metrics": {"final": {"bleu": 1.5}, "best": {}, "test": {"signature": "nrefs:1"}},
        "performance": {"mfu": None},
        "notes": ["naïve \ud800"],
        "tracker": None,
        "error": None,
        "time": {"started": "2026-01-01T00:00:00+00:00", "ended": None, "train_seconds": 1.5},
    }
    return Record(**(fields | changes))


A_PLAN = Plan(SCHEMA_VERSION, "sweep", ["model.depth=1,2"], [PlannedRun("a", ["model.depth=1"], {"seed": 1})])


@pytest.mark.parametrize("status", Status)
def test_a_record_comes_back_as_it_was(tmp_path: Path, status: Status) -> None:
    record = a_record(status=status, error={"type": "E", "message": "m", "traceback": "t"})
    path = write_record(record, tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / RECORD_FILE
    assert read_record(path) == record


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    assert write_record(A_PLAN, tmp_path) == tmp_path / PLAN_FILE
    assert read_plan(tmp_path / PLAN_FILE) == A_PLAN


def test_a_record_of_the_first_version_is_read(tmp_path: Path) -> None:
    old = stored(schema_version=1, error={"type": "E", "message": "m", "traceback": "t"}, status="failed")
    del old["attempts"]
    (tmp_path / RECORD_FILE).write_text(json.dumps(old))
    record = read_record(tmp_path / RECORD_FILE)
    assert (record.schema_version, record.attempts, record.status_label) == (SCHEMA_VERSION, 1, "failed")


def test_progress_is_told_and_not_missed(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    write_progress(tmp_path, 3, None)
    assert read_progress(tmp_path) == (3, None)
    assert [path.name for path in tmp_path.iterdir()] == [PROGRESS_FILE]


def test_numbers_that_json_lacks_come_back(tmp_path: Path) -> None:
    record = a_record(metrics={"test": {"a": math.nan, "b": [math.inf], "c": -math.inf, "d": 1e-300}})
    path = write_record(record, tmp_path)
    stored = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert stored["metrics"]["test"] == {"a": "NaN", "b": ["Infinity"], "c": "-Infinity", "d": 1e-300}
    found = read_record(path).metrics["test"]
    assert math.isnan(found.pop("a"))
    assert found == {"b": [math.inf], "c": -math.inf, "d": 1e-300}


@pytest.mark.parametrize("stop", ["encode", "replace"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str) -> None:
    path = write_record(a_record(), tmp_path)
    before = path.read_bytes()
    second = a_record(notes=["second"])
    if stop == "encode":
        second.metrics["test"]["bleu"] = object()
    else:
        monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises((TypeError, OSError)):
        write_record(second, tmp_path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [RECORD_FILE]


def test_the_draft_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write_record(a_record(), tmp_path)
    assert done == ["fsync", "replace"]


def stored(**changes: Any) -> dict[str, Any]:
    return dataclasses.asdict(a_record()) | {"status": "finished"} | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(stored(schema_version=3)), "schema version 3, where this attnbench reads 1 and 2;"),
        (json.dumps({}), "schema version None, where this attnbench reads 1 and 2;"),
        ("[]", "schema version None"),
        (json.dumps(stored(color="red")), "no such field: color; expected schema_version, run_id"),
        (json.dumps({k: v for k, v in stored().items() if k != "seed"}), "the field seed is missing"),
        (
            json.dumps(stored(status="done")),
            "status: expected one of running, finished, failed, interrupted, given",
        ),
        (json.dumps(stored(seed=True)), "seed: expected a whole number, given True"),
        (json.dumps(stored(seed="1")), "seed: expected a whole number, given '1'"),
        (json.dumps(stored(notes="x" * 99)), "notes: expected a list, given 'xxx"),
        (json.dumps(stored(overrides=[1])), r"overrides\[0\]: expected text, given 1"),
        (
            json.dumps(stored(parameters={"total": 1.5})),
            r"parameters.total: expected a whole number, given 1.5",
        ),
        (json.dumps(stored(metrics={"test": 3})), "metrics.test: expected keys with values, given 3"),
        (json.dumps(stored(tracker=1)), "tracker: expected keys with values, given 1"),
        (json.dumps(stored(performance={"mfu": math.nan})), "not valid JSON: NaN is no JSON number"),
        (json.dumps(stored())[:-5], "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_what_is_not_a_record_is_refused_by_name(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / RECORD_FILE
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(RecordError, match=message) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"run.json: cannot be read: No such file"):
        read_record(tmp_path / RECORD_FILE)


def test_a_plan_says_where_it_is_wrong(tmp_path: Path) -> None:
    content = dataclasses.asdict(A_PLAN)
    content["runs"][0]["run_id"] = 7
    (tmp_path / PLAN_FILE).write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"plan.json: runs\[0\]: run_id: expected text, given 7"):
        read_plan(tmp_path / PLAN_FILE)


def test_all_records_below_a_folder(tmp_path: Path) -> None:
    for run_id in ("b", "a", "c"):
        write_record(a_record(run_id=run_id), tmp_path / "sweep" / run_id)
    # What lies deeper in a run's own folder is no run of the sweep.
    write_record(a_record(run_id="inner"), tmp_path / "sweep" / "a" / "wandb")
    write_record(a_record(run_id="a"), tmp_path / "sweep" / "z_copy_of_a")
    (tmp_path / "sweep" / "bad").mkdir()
    (tmp_path / "sweep" / "bad" / RECORD_FILE).write_text("{")
    records, problems = read_records(tmp_path)
    assert [record.run_id for record in records] == ["a", "b", "c"]
    assert len(problems) == 2
    assert "not valid JSON" in str(problems[0])
    assert "left out: run a has another record" in str(problems[1])
    assert "z_copy_of_a" in str(problems[1])
    assert read_records(tmp_path / "nothing") == ([], [])


def test_what_is_to_be_shown_has_no_halves_of_characters_and_no_control_characters(tmp_path: Path) -> None:
    kept = "naïve 😀\t\n"
    record = a_record(notes=["\ud800\x1b[31m\x7f\x85", kept], config={"paths": {"data": "\udcff"}})
    write_record(record, tmp_path)
    (shown,), _ = read_records(tmp_path)
    unknown = "\N{REPLACEMENT CHARACTER}"
    assert shown.notes == [f"{unknown * 2}[31m{unknown * 2}", kept]
    assert shown.config == {"paths": {"data": unknown}}
    assert read_record(tmp_path / RECORD_FILE) == record, "a run that goes on needs the bytes"


def test_whole_numbers_are_numbers_and_defaults_may_be_left_out() -> None:
    @dataclasses.dataclass
    class Options:
        scale: float
        digits: int = 2

    Options.__annotations__.update(scale=float, digits=int)  # local names do not resolve by themselves
    assert build_dataclass(Options, {"scale": 3}, "here") == Options(3.0)
    with pytest.raises(RecordError, match="here: scale: expected a number, given None"):
        build_dataclass(Options, {"scale": None}, "here")


def test_text_that_is_the_name_of_a_number_stays_text(tmp_path: Path) -> None:
    """Otherwise an exception whose message is "NaN" would make the record unreadable."""
    error = {"kind": "raised", "type": "FloatingPointError", "message": "NaN"}
    record = a_record(notes=["Infinity", "-Infinity"], error=error, metrics={"test": {"loss": math.inf}})
    write_record(record, tmp_path)
    assert read_record(tmp_path / RECORD_FILE) == record
