from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.records.record import SCHEMA_VERSION, Record, Status, write_record
from attnbench.reporting.formats import FORMATS
from attnbench.table import main


def fill(folder: Path, depths: int) -> None:
    for depth in range(depths):
        for seed in (1, 2):
            run_id = f"{depth:06x}{seed:06x}"
            config = {
                "seed": seed,
                "model": {"depth": depth, **{f"key{i}": i for i in range(60)}},
                "trainer": {},
                "sweep": {"name": "demo", "table": None},
            }
            test = {"bleu": 30.0 + depth + seed}
            record = Record(
                SCHEMA_VERSION, run_id, "demo", "demo", Status.finished, config, [], seed, {}, {"total": 5},
                {"test": test}, {}, [], None, None, {},
            )  # fmt: skip
            write_record(record, folder / "demo" / run_id)


@pytest.mark.parametrize("kind", FORMATS)
def test_prints_one_format_and_writes_all(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    fill(tmp_path, 2)
    assert main(["demo", "--output", str(tmp_path), "--experiments", str(tmp_path), "--format", kind]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "demo" / f"table{FORMATS[kind][0]}").read_text(encoding="utf-8")
    assert all((tmp_path / "demo" / f"table{suffix}").is_file() for suffix, _ in FORMATS.values())


def test_prints_markdown_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 1)
    assert main(["demo", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "demo" / "table.md").read_text(encoding="utf-8")
    assert "31.50 ± 0.71 (n=2)" in printed


def test_no_records_is_one_sentence_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {tmp_path}/demo: no records of runs here\n"


def test_starts_without_torch_or_hydra(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    code = (
        "import sys; from attnbench.table import main\n"
        f"assert main(['demo', '--output', {str(tmp_path)!r}]) == 0\n"
        "assert not {'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules), 'a heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_another_layout_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 2)
    (tmp_path / "other").mkdir()
    layout = "rows: [{key: model.depth, label: layers}]\ncolumns: [{key: metrics.test.bleu, label: quality}]\n"
    (tmp_path / "other" / "table.yaml").write_text(layout)
    assert main(["demo", "--output", str(tmp_path), "--experiments", str(tmp_path), "--table", "other"]) == 0
    printed = capsys.readouterr().out
    assert "layers" in printed
    assert "quality" in printed


def test_a_layout_that_is_asked_for_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "table.yaml").write_text("title: other\n")
    assert main(["demo", "--output", str(tmp_path), "--experiments", str(tmp_path), "--table", "othr"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/othr/table.yaml: no such layout; there are other\n"
    assert not list((tmp_path / "demo").glob("table.*"))


def test_every_row_of_a_thousand_records_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)
    fill(tmp_path, 500)
    assert main(["demo", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("(n=2)") == 500
