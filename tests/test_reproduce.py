from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnbench import reproduce
from attnbench.reporting.verification import write_results

TINY = [
    "experiment=synthetic_translation", "model=toy", "model.depth=1,2", "data.train_pairs=100", "data.val_pairs=10",
    "data.test_pairs=10", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.num_threads=1",
    "logger=none", "callbacks=quiet", "seed=1,2",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder with an experiment whose results are committed."""
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "attnbench", "train", "-m", *TINY, "sweep.name=depths"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    results = tmp_path / "experiments" / "depths" / "results"
    for path in (tmp_path / "multirun" / "depths").glob("*/run.json"):
        (results / path.parent.name).mkdir(parents=True)
        shutil.copy(path, results / path.parent.name)
    shutil.copy(tmp_path / "multirun" / "depths" / "plan.json", results)
    columns = "[{key: metrics.test.bleu, best: max}, {key: metrics.test.loss, best: min}]"
    (results.parent / "table.yaml").write_text(f"rows: [model.depth]\ncolumns: {columns}\n")
    write_results(results.parent)
    return tmp_path


def test_runs_trained_again_give_the_same_table(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["depths"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == "4 cells: 4 the same, 0 inside the interval, 0 outside the interval, 0 missing"
    assert lines[-5].startswith("model.depth=1: bleu: ")
    assert lines[-5].endswith(": the same")


def test_a_committed_number_that_is_wrong_is_outside(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = sorted((folder / "experiments" / "depths" / "results").glob("*/run.json"))[0]
    record = json.loads(path.read_text())
    record["metrics"]["test"]["loss"] += 1e-9
    depth = record["config"]["model"]["depth"]
    path.write_text(json.dumps(record))
    (other,) = (
        one
        for one in (folder / "experiments" / "depths" / "results").glob("*/run.json")
        if one != path and json.loads(one.read_text())["config"]["model"]["depth"] == depth
    )
    assert reproduce.main(["depths"]) == 0, "the spread of two seeds is larger"
    assert "1 inside the interval" in capfd.readouterr().out
    for one in (path, other):
        changed = json.loads(one.read_text())
        changed["metrics"]["test"]["loss"] = 100.0 + changed["seed"]
        one.write_text(json.dumps(changed))
    assert reproduce.main(["depths"]) == 1, "the runs exist, so that they are only compared"
    assert "1 outside the interval" in capfd.readouterr().out


def test_an_experiment_without_results_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["nothing"]) == 2
    assert capsys.readouterr().err == "error: experiments/nothing/results: no committed records there\n"
