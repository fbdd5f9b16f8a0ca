from __future__ import annotations

import dataclasses
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.records.record import Plan, Record, RecordError, Status, write_record
from attnbench.reporting.cells import Cell
from attnbench.reporting.formats import FORMATS, format_markdown
from attnbench.reporting.tables import load_table, read_sweep_results, save_table, write_tables

from .records import make_records

MakeRecord = Callable[..., Record]
MakePlan = Callable[[list[Record]], Plan]
FILES = [f"table{suffix}" for suffix, _ in FORMATS.values()]


def make_sweep(make_record: MakeRecord, make_plan: MakePlan, folder: Path) -> list[Record]:
    rng = random.Random(0)
    records = [
        make_record({"model.depth": depth, "model.norm_placement": norm}, seed=seed, bleu=30 + rng.random())
        for depth in (2, 4)
        for norm in ("pre", "post")
        for seed in (1, 2, 3)
    ]
    records[0].status = Status.failed
    write_record(make_plan(records), folder)
    return records


def test_the_same_records_give_the_same_bytes(make_record: MakeRecord, make_plan: MakePlan, tmp_path: Path) -> None:
    found = []
    for attempt in range(2):
        folder = tmp_path / str(attempt) / "demo"
        records = make_sweep(make_record, make_plan, folder)
        random.Random(attempt).shuffle(records)
        for record in records:
            write_record(record, folder / record.run_id)
        shown = write_tables(folder, tmp_path / "experiments")
        assert (folder / "table.md").read_text(encoding="utf-8") == shown
        found.append([(folder / file).read_bytes() for file in FILES])
        assert write_tables(folder, tmp_path / "experiments") == shown
    assert found[0] == found[1]


def test_an_unreadable_record_is_a_missing_run_and_a_note(
    make_record: MakeRecord, make_plan: MakePlan, tmp_path: Path
) -> None:
    records = make_sweep(make_record, make_plan, tmp_path / "demo")
    for record in records:
        write_record(record, tmp_path / "demo" / record.run_id)
    broken = tmp_path / "demo" / records[-1].run_id / "run.json"
    broken.write_text("{")
    shown = write_tables(tmp_path / "demo", tmp_path)
    assert "2 of 12 runs are not included: 1 failed, 1 not run." in shown
    assert f"- demo/{records[-1].run_id}/run.json: not valid JSON" in shown


def test_the_layout_is_the_one_that_runs_name(make_record: MakeRecord, tmp_path: Path) -> None:
    record = make_record({"model.depth": 2})
    write_record(record, tmp_path / "demo" / "a")
    for name in ("demo", "other"):
        (tmp_path / "experiments" / name).mkdir(parents=True)
        (tmp_path / "experiments" / name / "table.yaml").write_text(f"title: from {name}\nrows: [model.depth]\n")
    assert load_table(tmp_path / "demo", tmp_path / "experiments").title == "from demo"
    record.config["sweep"]["table"] = "other"
    write_record(record, tmp_path / "demo" / "a")
    assert load_table(tmp_path / "demo", tmp_path / "experiments").title == "from other"
    assert load_table(tmp_path / "demo", tmp_path / "experiments", "demo").title == "from demo"
    elsewhere = load_table(tmp_path / "demo", tmp_path / "nowhere")
    assert elsewhere.title == "demo"
    assert "sweep.table=other: no other/table.yaml in nowhere: the default layout is used" in format_markdown(elsewhere)


def test_no_records_is_said_in_a_sentence(make_record: MakeRecord, tmp_path: Path) -> None:
    write_record(make_record({}), tmp_path / "there" / "a")
    with pytest.raises(RecordError, match=f"here: no records of runs here; {tmp_path} has there$"):
        load_table(tmp_path / "here", tmp_path)


LAYOUT = """
title: Everything at once
rows: [{key: model.depth, label: layers}, {key: attention.score, label: score},
  {key: model.norm_placement, label: norm},
  {key: model.num_heads, label: heads}]
columns:
  - {key: metrics.test.bleu, label: BLEU, best: max, spread: interval, change: true}
  - {key: metrics.test.chrf, label: chrF, best: max}
  - {key: parameters.total, label: "parameters", scale: 1.0e-6, digits: 1, unit: "10^6"}
baseline: {model.depth: 3, attention.score: scaled_dot, model.norm_placement: pre, model.num_heads: 2}
groups: [{label: (A), keys: [model.num_heads]}, {label: (B), keys: [model.depth]}]
paper: paper.yaml
"""
PAPER = """
sources: {x: {citation: "X & Y 2017, Table_3.", protocol: "100 % more data"}}
numbers: [{source: x, where: {model.depth: 4, model.norm_placement: pre}, values: {metrics.test.bleu: 30.5}}]
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sweep `demo` of 120 runs, holes and failures included, and its layout."""
    folder = tmp_path_factory.mktemp("sweep")
    make_records(folder / "demo")
    (folder / "exp" / "demo").mkdir(parents=True)
    (folder / "exp" / "demo" / "table.yaml").write_text(LAYOUT)
    (folder / "exp" / "demo" / "paper.yaml").write_text(PAPER)
    return folder


def test_all_that_can_befall_a_sweep_is_in_every_format(sweep: Path) -> None:
    save_table(load_table(sweep / "demo", sweep / "exp"), sweep / "demo")
    for file in FILES:
        text = (sweep / "demo" / file).read_text(encoding="utf-8")
        for said in ("diverged", "not run", "not finite", "no interval", "X & Y 2017"):
            if file != "table.csv" or said not in ("no interval", "X & Y 2017"):
                wanted = {"table.tex": said.replace("&", r"\&"), "table.html": said.replace("&", "&amp;")}
                assert wanted.get(file, said) in text, (file, said)
    rows = (sweep / "demo" / "table.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 41
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
        subprocess.run(command, cwd=sweep / "demo", check=True, capture_output=True)


def test_deleting_any_record_changes_its_cells_to_a_reason(sweep: Path) -> None:
    source = read_sweep_results(sweep / "demo", sweep / "exp")

    def cells(kept: list[Record]) -> dict[tuple[str, ...], tuple[Cell, ...]]:
        return {row.labels: row.cells for row in dataclasses.replace(source, records=kept).build_table().rows}

    before, affected = cells(source.records), 0
    for gone in source.records[::7]:
        after = cells([record for record in source.records if record is not gone])
        assert after.keys() == before.keys()
        changed = [labels for labels in before if after[labels] != before[labels]]
        assert len(changed) == 1
        for then, now in zip(before[changed[0]], after[changed[0]], strict=True):
            assert "not run" in now.missing
            assert gone.run_id not in now.run_ids
            assert now.run_ids or now.value in ("not run", now.missing), "silence"
            affected += then.run_ids != now.run_ids
    assert affected > 20


def test_a_sweep_of_all_fates_is_made_anew_byte_for_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        records = make_records(tmp_path / name, 48)
    assert {record.status for record in records} == set(Status)
    files = [path.relative_to(tmp_path / "a") for path in sorted((tmp_path / "a").rglob("*.json"))]
    assert len(files) == len(records) + 1
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)
