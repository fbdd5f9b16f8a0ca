"""The file for W&B sweeps, and the command that W&B's own agent makes of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from wandb import wandb_agent
from wandb.apis.public import sweeps

from attnbench import wandb_sweep
from attnbench.records.identity import compute_run_id
from attnbench.records.record import read_plan
from attnbench.sweeps.plan import build_plan, compose_run
from attnbench.sweeps.wandb_agents import build_sweep_config


def typed_by_an_agent(
    config: dict[str, Any], chosen: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The command line that `wandb agent` would start for one combination, by its own code."""
    started: list[list[str]] = []

    def start(command: list[str], **_: Any) -> SimpleNamespace:
        started.append(command)
        return SimpleNamespace()

    monkeypatch.setattr(wandb_agent, "AgentProcess", start)
    for variable in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):
        monkeypatch.setenv(variable, "")  # which the agent sets
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    monkeypatch.setenv("WANDB_DIR", str(folder))
    agent = wandb_agent.Agent(api=None, queue=None, sweep_id="abc")
    agent._sweep_command = list(config["command"])
    args = {key: {"value": value} for key, value in chosen.items()}
    agent._command_run({"run_id": "theirs", "program": config["program"], "args": args})
    (command,) = started
    return command


@pytest.mark.parametrize(
    "overrides",
    [
        ["sweep=heads", "experiment=synthetic_translation", "trainer.max_steps=5", "sweep.tune.params=null"],
        # Choices of a group, null, truth, lists and numbers in more than one spelling.
        ["sweep=vit_vs_cnn", "model=small,cnn", "optim.lr=1e-4,0.02", "trainer.patience=null,3"],
        ["debug.detect_anomaly=true,false", "logger.tags=[a,b]", "seed=range(1,3)", "sweep.name=odd"],
    ],
)
def test_an_agent_starts_the_runs_of_the_plan(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build_plan(overrides, is_multirun=True)
    config = yaml.safe_load(yaml.safe_dump(build_sweep_config(plan)))
    assert sweeps._validate_config_and_fill_distribution(config) == config
    grid = {key: parameter["values"] for key, parameter in config["parameters"].items()}
    found = set()
    for values in itertools.product(*grid.values()):
        command = typed_by_an_agent(config, dict(zip(grid, values, strict=True)), tmp_path, monkeypatch)
        assert command[:4] == ["/usr/bin/env", "python", "-m", "attnbench.train"]
        composed = compose_run(command[4:])
        assert (composed.logger.mode.name, composed.sweep.name) == ("online", plan.sweep)
        found.add(compute_run_id(composed))
    assert found == {run.run_id for run in plan.runs}


def test_the_door_writes_file_and_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert wandb_sweep.main(["sweep=heads", "sweep.tune.params=null", f"paths.output={tmp_path}"]) == 0
    assert "20 runs\n`wandb sweep " in capsys.readouterr().out
    config = yaml.safe_load((tmp_path / "heads" / "wandb_sweep.yaml").read_text())
    assert config["parameters"] == {"model.num_heads": {"values": [1, 2, 4, 8]}, "seed": {"values": [1, 2, 3, 4, 5]}}
    assert len(read_plan(tmp_path / "heads" / "plan.json").runs) == 20


def test_what_cannot_be_run_is_not_handed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["sweep=heads", "model.num_heads=3,4", "optim.lr=-1", f"paths.output={tmp_path}"]
    assert wandb_sweep.main([*given]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "model.num_heads=3" in said[1] or "model.num_heads=3" in said[0]
    assert not list(tmp_path.iterdir())
    drawn = ["sweep=heads", "hydra/sweeper=random", f"paths.output={tmp_path}"]
    assert wandb_sweep.main([*drawn]) == 2
    assert "hydra/sweeper=random: expected grid: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sweep=heads"], "expected null: W&B's agents cannot run a sweep in stages"),
        (["model.depth=1,2", "model.d_ff=64,128", "sweep.zip=[[model.depth,model.d_ff]]"], "expected a full grid"),
        (["model.num_heads=3,4", "model.d_model=64", "sweep.skip_invalid=true"], "expected a full grid"),
    ],
)
def test_a_sweep_that_is_no_grid_is_refused(
    overrides: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wandb_sweep.main([*overrides, f"paths.output={tmp_path}"]) == 2
    assert sentence in capsys.readouterr().err
