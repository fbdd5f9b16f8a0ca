"""The door: what it refuses and how fast, what it shows, and a sweep through it from plan to table."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.config.attention import Score
from attnbench.records.record import RECORD_FILE, Status, read_plan, read_record
from attnbench.sweeps.lease import Lease, acquire_lease

COMMAND = Path(__file__).parent / "sweeps" / "sweep_command.py"


def train(
    *arguments: str, cwd: Path, script: Path | None = None, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    door = ["-m", "attnbench.train"] if script is None else [str(script)]
    return subprocess.run(
        [sys.executable, *options, *door, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_everything_wrong_is_named_at_once_and_quickly(tmp_path: Path) -> None:
    before = cpu_seconds()
    done = train("-m", "model.num_heads=3", "attention.score=cosin", "optim.lr=-1", cwd=tmp_path)
    took = cpu_seconds() - before
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"attnbench: attention.score=cosin: expected one of {', '.join(sorted(score.name for score in Score))}",
        "attnbench: model.num_heads=3: expected a divisor of model.d_model=64, or model.d_k and model.d_v to be set",
        "attnbench: optim.lr=-1: expected a number above 0",
    ]
    assert took < 3
    assert not list(tmp_path.iterdir()), "a refused command writes nothing"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["-m", "optim.lr=-1"], ["optim.lr=-1"]], ids=" ".join
)
def test_nothing_that_does_not_train_imports_torch(arguments: list[str], tmp_path: Path) -> None:
    done = train(*arguments, cwd=tmp_path, options=("-X", "importtime"))
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert "hydra" in imported
    assert not imported & {"torch", "pytorch_lightning", "wandb", "matplotlib", "numpy"}


def test_help_shows_every_group_with_its_choices(tmp_path: Path) -> None:
    done = train("--help", "model=tiny", cwd=tmp_path)
    assert done.returncode == 0
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert rows["model"][:3] == ["tiny", "bahdanau,", "bahdanau_d2l,"]
    assert {"task", "data", "attention", "optim", "sweep", "experiment"} <= set(rows)
    assert "schema" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_help_of_a_choice_there_is_not_is_refused(tmp_path: Path) -> None:
    done = train("--help", "model=tinny", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("attnbench: model=tinny: expected one of ")


def test_cfg_shows_what_would_run(tmp_path: Path) -> None:
    done = train("--cfg", "job", "model.depth=3", "-p", "model", cwd=tmp_path)
    assert done.returncode == 0
    assert "depth: 3\n" in done.stdout


def test_a_sweep_from_plan_to_table_and_again(tmp_path: Path) -> None:
    command = ("-m", "seed=1,2,3", "sweep.name=small")
    folder = tmp_path / "multirun" / "small"
    (tmp_path / "2.fail").touch()
    done = train(*command, cwd=tmp_path, script=COMMAND)
    plan = read_plan(folder / "plan.json")
    assert [run.overrides for run in plan.runs] == [[f"seed={n}", "sweep.name=small"] for n in (1, 2, 3)]
    assert [read_record(folder / run.run_id / RECORD_FILE).status for run in plan.runs] == [
        Status.finished, Status.failed, Status.finished
    ]  # fmt: skip
    assert done.returncode == 1
    assert f"[2/3] {plan.runs[1].run_id} seed=2" in done.stdout
    assert "RuntimeError: boom" in done.stdout
    assert (folder / "table.md").read_text() in done.stdout
    assert done.stderr == f"attnbench: failed: {plan.runs[1].run_id} seed=2: boom\n"
    assert (folder / plan.runs[0].run_id / ".hydra" / "overrides.yaml").read_text() == "- seed=1\n- sweep.name=small\n"

    (tmp_path / "2.fail").unlink()
    done = train(*command, cwd=tmp_path, script=COMMAND)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.count("skipped: finished") == 2
    assert read_record(folder / plan.runs[1].run_id / RECORD_FILE).status is Status.finished


def test_a_batch_of_the_sweeper_that_failed_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / "2.fail").touch()
    done = train("-m", "seed=2,3", "sweep.name=small", "hydra.sweeper.max_batch_size=1", cwd=tmp_path, script=COMMAND)
    assert done.returncode == 1
    plan = read_plan(tmp_path / "multirun" / "small" / "plan.json")
    assert read_record(tmp_path / "multirun" / "small" / plan.runs[1].run_id / RECORD_FILE).status is Status.finished


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    assert train("-m", "seed=1", cwd=tmp_path, script=COMMAND).returncode == 0
    done = train("seed=1", "logger=none", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished before: ")
    assert "To run it again, delete that folder." in done.stdout


def test_a_record_of_another_version_stops_a_single_run(tmp_path: Path) -> None:
    assert train("-m", "seed=1", cwd=tmp_path, script=COMMAND).returncode == 0
    (record,) = tmp_path.rglob(RECORD_FILE)
    record.write_text('{"schema_version": 99}')
    done = train("seed=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "schema version 99" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_run_that_goes_on_elsewhere_is_left_alone(tmp_path: Path) -> None:
    assert train("-m", "seed=1", cwd=tmp_path, script=COMMAND).returncode == 0
    (record,) = tmp_path.rglob(RECORD_FILE)
    record.unlink()
    assert isinstance(acquire_lease(record.parent, 60.0), Lease)
    done = train("seed=1", "logger=none", cwd=tmp_path)
    assert done.returncode == 2
    assert f"running elsewhere: host {socket.gethostname()}, pid {os.getpid()}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_layout_that_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "experiments" / "mine").mkdir(parents=True)
    (tmp_path / "experiments" / "mine" / "table.yaml").write_text("rows: [seed]\n")
    done = train("-m", "seed=1", "sweep.table=nope", cwd=tmp_path, script=COMMAND)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("attnbench: sweep.table=nope: experiments/nope/table.yaml: no such layout; there are mine\n")
    assert train("seed=1", "-m", "sweep.table=mine", cwd=tmp_path, script=COMMAND).returncode == 0


def test_an_option_that_would_do_nothing_is_refused(tmp_path: Path) -> None:
    for arguments in (["-cn", "saved"], ["-m", "--cfg", "job"], ["hydra.job.chdir=true"], ["-m", "hydra.mode=RUN"]):
        done = train(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("attnbench: ")
        assert len(done.stderr.splitlines()) == 1


def test_hydra_mode_is_a_sweep_as_the_option_is(tmp_path: Path) -> None:
    done = train("hydra.mode=MULTIRUN", "seed=1", "sweep.name=small", cwd=tmp_path, script=COMMAND)
    assert (done.returncode, done.stderr) == (0, "")
    assert "sweep small: 1 runs in multirun/small" in done.stdout
