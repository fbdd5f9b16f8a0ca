"""A sweep's workspace, by the model that W&B's own package has of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnbench import sync
from attnbench.records.record import write_record
from attnbench.sweeps.plan import build_plan
from attnbench.tracking.workspace import WORKSPACE_FILE, build_workspace, find_varying_keys

ws = pytest.importorskip("wandb_workspaces.workspaces")


def test_the_definition_is_one_that_wandb_reads(tmp_path: Path) -> None:
    plan = build_plan(
        ["model.num_heads=1,2", "attention.score=dot,additive", "seed=1,2", "sweep.name=many"], is_multirun=True
    )
    (tmp_path / "aa" / "pictures" / "final").mkdir(parents=True)
    (tmp_path / "aa" / "pictures" / "final" / "cross-0.png").touch()
    assert {"seed", "model.num_heads", "attention.score"} <= set(find_varying_keys(plan))
    text = build_workspace(plan, tmp_path, "us")._to_model().model_dump_json(by_alias=True)
    found = ws.Workspace._from_model(ws.internal.View.model_validate_json(text))
    assert (found.entity, found.project, found.name) == ("us", "attnbench", "attnbench many")
    curves, parameters, attention = found.sections
    assert [panel.y[0].name for panel in curves.panels][:3] == ["train/loss", "val/loss", "val/bleu"]
    assert {panel.groupby_rangefunc for panel in curves.panels} == {"stddev"}
    columns = [column.metric.name for column in parameters.panels[0].columns]
    assert columns[:4] == ["model.depth", "model.num_heads", "model.norm_placement", "attention.score"]
    assert columns[-1] == "best/bleu"
    assert attention.panels[0].media_keys == ["pictures/cross-0"]
    assert "many" in str(found.runset_settings.filters)
    assert "model.num_heads" in str(found.runset_settings.groupby)


def test_the_door_leaves_the_definition_where_nobody_is_logged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wandb.login", lambda **_: False)
    assert sync.main([str(tmp_path), "--workspace"]) == 2
    assert "plan.json: cannot be read" in capsys.readouterr().err
    write_record(build_plan(["seed=1,2"], is_multirun=True), tmp_path)
    assert sync.main([str(tmp_path), "--workspace"]) == 2
    said = capsys.readouterr()
    assert said.out.startswith(f"{tmp_path / WORKSPACE_FILE}: the workspace, which this command saves at W&B where")
    assert said.err.startswith("error: not logged in to W&B: ")
    assert (tmp_path / WORKSPACE_FILE).is_file()


def test_the_door_saves_it_where_somebody_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(build_plan(["seed=1,2", "logger.entity=us"], is_multirun=True), tmp_path)
    monkeypatch.setattr("wandb.login", lambda **_: True)
    saved: list[Any] = []
    monkeypatch.setattr(ws.Workspace, "save", lambda self: saved.append(self) or self)
    monkeypatch.setattr(ws.Workspace, "url", property(lambda self: f"https://w.b/{self.entity}/{self.project}"))
    assert sync.main([str(tmp_path), "--workspace"]) == 0
    assert [workspace.name for workspace in saved] == ["attnbench synthetic_translation"]
    assert "https://w.b/us/attnbench\n" in capsys.readouterr().out
