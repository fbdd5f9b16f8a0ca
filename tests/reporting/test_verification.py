from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnbench import verify
from attnbench.records.record import Record, write_record
from attnbench.reporting.verification import find_differences, list_results, write_results

from .test_baselines import MakeRecord, grid

LAYOUT = """
rows: [model.depth, model.norm_placement]
columns: [{key: metrics.test.bleu, best: max}]
baseline: {model.norm_placement: post}
figures: [{name: bleu, kind: lines, x: model.depth, y: metrics.test.bleu}]
"""


@pytest.fixture
def experiment(tmp_path: Path, make_record: MakeRecord) -> Path:
    """Return an experiment with records, and with results that were rendered from them."""
    folder = tmp_path / "experiments" / "norms"
    for record in grid(make_record, 3):
        write_record(record, folder / "results" / record.run_id)
    (folder / "table.yaml").write_text(LAYOUT)
    write_results(folder)
    return folder


def change_record(experiment: Path, record: Record) -> None:
    record.metrics["test"]["bleu"] += 1
    write_record(record, experiment / "results" / record.run_id)


def test_rendered_results_are_the_same(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list_results(experiment.parent) == [experiment]
    assert list(find_differences(experiment)) == []
    assert verify.main(["--experiments", str(experiment.parent)]) == 0
    assert capsys.readouterr().out == "norms: the same\n"


def test_a_changed_record_names_the_cell(
    experiment: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    change_record(experiment, grid(make_record, 3)[0])
    assert verify.main(["--experiments", str(experiment.parent)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "norms: different"
    assert "table.json: row model.depth=2, model.norm_placement=post, column metrics.test.bleu: 30." in lines[1]
    assert ", and the records give 30." in lines[1]
    assert any(line.endswith("bleu.png: the records give other content") for line in lines)


def test_a_table_that_was_changed_by_hand_is_named(experiment: Path) -> None:
    path = experiment / "results" / "table.json"
    table = json.loads(path.read_text())
    table["rows"][1]["cells"]["metrics.test.bleu"]["value"] = "99.00"
    path.write_text(json.dumps(table))
    (difference,) = find_differences(experiment)
    assert "row model.depth=2, model.norm_placement=pre, column metrics.test.bleu: 99.00" in difference


@pytest.mark.parametrize("name", ["table.md", "table.tex", "bleu.pdf"])
def test_a_file_that_is_missing_or_changed_is_named(experiment: Path, name: str) -> None:
    path = experiment / "results" / name
    path.write_bytes(path.read_bytes() + b" ")
    assert list(find_differences(experiment)) == [f"{path}: the records give other content"]
    path.unlink()
    assert list(find_differences(experiment)) == [f"{path}: missing"]


def test_a_record_that_is_missing_changes_the_rows(experiment: Path, make_record: MakeRecord) -> None:
    for record in grid(make_record, 3)[:3]:
        (experiment / "results" / record.run_id / "run.json").unlink()
    assert any("table.json: 4 rows, and the records give 3" in line for line in find_differences(experiment))


def test_an_unknown_experiment_is_refused(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.main(["nothing", "--experiments", str(experiment.parent)]) == 2
    assert capsys.readouterr().err == "error: nothing: no records in results/; expected some of norms\n"
