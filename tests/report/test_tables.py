from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.record import Plan, Record, RecordError, Status, write
from attnbench.report.tables import load_table, write_tables

MakeRecord = Callable[..., Record]
MakePlan = Callable[[list[Record]], Plan]
FILES = ("table.md", "table.csv", "table.tex")


def make_sweep(make_record: MakeRecord, make_plan: MakePlan, folder: Path) -> list[Record]:
    rng = random.Random(0)
    records = [
        make_record({"model.depth": depth, "model.norm": norm}, seed=seed, bleu=30 + rng.random())
        for depth in (2, 4)
        for norm in ("pre", "post")
        for seed in (1, 2, 3)
    ]
    records[0].status = Status.failed
    write(make_plan(records), folder)
    return records


def test_the_same_records_give_the_same_bytes(make_record: MakeRecord, make_plan: MakePlan, tmp_path: Path) -> None:
    found = []
    for attempt in range(2):
        folder = tmp_path / str(attempt) / "demo"
        records = make_sweep(make_record, make_plan, folder)
        random.Random(attempt).shuffle(records)
        for record in records:
            write(record, folder / record.run_id)
        shown = write_tables(folder, tmp_path / "experiments", "demo")
        assert (folder / "table.md").read_text(encoding="utf-8") == shown
        found.append([(folder / file).read_bytes() for file in FILES])
        assert write_tables(folder, tmp_path / "experiments", "demo") == shown
    assert found[0] == found[1]


def test_an_unreadable_record_is_a_missing_run_and_a_note(
    make_record: MakeRecord, make_plan: MakePlan, tmp_path: Path
) -> None:
    records = make_sweep(make_record, make_plan, tmp_path / "demo")
    for record in records:
        write(record, tmp_path / "demo" / record.run_id)
    broken = tmp_path / "demo" / records[-1].run_id / "run.json"
    broken.write_text("{")
    shown = write_tables(tmp_path / "demo", tmp_path)
    assert "2 of 12 runs do not count: 1 failed, 1 not run." in shown
    assert f"- demo/{records[-1].run_id}/run.json: not valid JSON" in shown


def test_the_layout_is_the_one_that_runs_name(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record({"model.depth": 2})
    write(record, tmp_path / "demo" / "a")
    for name in ("demo", "other"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
        (tmp_path / "experiments" / name / "table.yaml").write_text(f"title: from {name}\nrows: [model.depth]\n")
    assert load_table(tmp_path / "demo", tmp_path / "experiments").title == "from demo"
    record.config["sweep"]["table"] = "other"
    write(record, tmp_path / "demo" / "a")
    assert load_table(tmp_path / "demo", tmp_path / "experiments").title == "from other"
    assert load_table(tmp_path / "demo", tmp_path / "experiments", "demo").title == "from demo"
    assert load_table(tmp_path / "demo", tmp_path / "nowhere").title == "demo"


def test_no_records_is_said_in_a_sentence(make_record: MakeRecord, tmp_path: Path) -> None:
    write(make_record({}), tmp_path / "there" / "a")
    with pytest.raises(RecordError, match=f"here: no records of runs here; {tmp_path} has there$"):
        load_table(tmp_path / "here", tmp_path)
