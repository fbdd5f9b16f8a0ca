"""A sweep's own W&B run, read back by W&B's own reader."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imsave

from attnbench.records.lifecycle import create_record
from attnbench.records.record import Plan, Status, write_record
from attnbench.sweeps.plan import build_plan, compose_run
from attnbench.tracking.sessions import find_sessions, read_lines
from attnbench.tracking.summary import compute_summary_id, log_summary

CSV = "score,test.bleu,test.bleu.missing,test.bleu.run_ids\ndot,21.5,,12e4\nadditive,,1/2 seeds,aa bb\n"


def leave(plan: Plan, folder: Path, tracker: str | None) -> None:
    """What a sweep leaves; its runs have that tracker."""
    for planned in plan.runs:
        record = create_record(compose_run(planned.overrides), planned.overrides)
        record.status, record.tracker = Status.finished, {"kind": tracker} if tracker else None
        write_record(record, folder / planned.run_id)
    write_record(plan, folder)
    (folder / "table.csv").write_text(CSV, encoding="utf-8")
    imsave(folder / "by_length.png", np.zeros((2, 2, 3)))


def test_the_table_and_figures_go_to_the_sweeps_own_run(tmp_path: Path) -> None:
    plan = build_plan(["seed=1,2", "sweep.name=two"], is_multirun=True)
    leave(plan, tmp_path, "wandb")
    log_summary(plan, tmp_path)
    (session,) = find_sessions(tmp_path)
    found = list(read_lines(session))
    (run,) = (line["run"] for line in found if line["type"] == "run")
    assert (run["run_id"], run["run_group"], run["job_type"]) == (compute_summary_id(plan), "two", "summary")
    (item,) = (line["history"]["item"] for line in found if line["type"] == "history")
    assert {"figures/by_length.path", "table.path"} <= set(item)
    table = json.loads((session.parent / "files" / item["table.path"]).read_text())
    assert table["data"] == [["dot", 21.5, None, "12e4"], ["additive", None, "1/2 seeds", "aa bb"]]
    artifacts = {line["artifact"]["type"]: line["artifact"] for line in found if line["type"] == "artifact"}
    assert {entry["path"] for entry in artifacts["results"]["manifest"]["contents"]} == {"plan.json", "table.csv"}
    code = {entry["path"] for entry in artifacts["code"]["manifest"]["contents"]}
    assert {"src/attnbench/tracking/summary.py", "conf/config.yaml"} <= code
    log_summary(plan, tmp_path)  # nothing has changed
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.parametrize(("tracker", "logger"), [(None, "wandb"), ("wandb", "csv")])
def test_what_wandb_has_no_part_in_is_not_summed_up_there(tmp_path: Path, tracker: str | None, logger: str) -> None:
    plan = build_plan(["seed=1,2", f"logger={logger}"], is_multirun=True)
    leave(plan, tmp_path, tracker)
    log_summary(plan, tmp_path)
    assert not (tmp_path / "wandb").exists()


def test_what_goes_wrong_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = build_plan(["seed=1,2"], is_multirun=True)
    leave(plan, tmp_path, "wandb")
    (tmp_path / "table.csv").write_bytes(b"\xff\n")
    log_summary(plan, tmp_path)
    said = capsys.readouterr().err
    assert said.startswith(f"attnbench: W&B did not take the table of {tmp_path}: UnicodeDecodeError: ")
    assert os.listdir(tmp_path / "wandb")
