"""A command that is stopped, or left alone: its exit status, what its records say, and that nothing lives on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from omegaconf import DictConfig

import attnbench.train
from attnbench.process import interrupts
from attnbench.process.interrupts import Interrupted
from attnbench.records.lifecycle import build_signal_error, create_record, write_final_status
from attnbench.records.record import RECORD_FILE, FailureReason, Status, read_record
from attnbench.sweeps.display import Outcome

from .test_supervisor import assert_gone, run

HERE = Path(__file__).parent
DOOR = [sys.executable, str(HERE / "sweep_command.py")]


def single(folder: Path, fate: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a single run that has this fate."""
    (folder / f"1.{fate}").touch()
    command = [*DOOR, "seed=1", "sweep.name=small"]
    environment = os.environ | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def left(folder: Path) -> list[str]:
    """Files of leases that were left."""
    return [path.name for path in folder.rglob("lease*")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_single_run_that_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "1.wait").touch()
    process = subprocess.Popen(
        [*DOOR, "seed=1", "sweep.name=small"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("ready")
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == 128 + number
    assert error == f"attnbench: stopped by {number.name}; the same command continues from there\n"
    (path,) = tmp_path.rglob(RECORD_FILE)
    record = read_record(path)
    assert (record.status, record.error and record.error["message"]) == (
        Status.interrupted,
        f"stopped by {number.name}",
    )
    assert not left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_single_run_that_is_stopped_before_it_has_a_record(tmp_path: Path, number: signal.Signals) -> None:
    done = single(tmp_path, "stopped_while_starting", FAKE_SIGNAL=number.name)
    assert done.returncode == 128 + number
    assert done.stderr == f"attnbench: stopped by {number.name}; the same command continues from there\n"
    assert not list(tmp_path.rglob(RECORD_FILE))
    assert not left(tmp_path)


def test_further_signals_do_not_cost_the_record_of_the_first(tmp_path: Path) -> None:
    done = single(tmp_path, "stopped_twice")
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "attnbench: stopped by SIGINT; the same command continues from there\n"
    (path,) = tmp_path.rglob(RECORD_FILE)
    assert read_record(path).status is Status.interrupted
    assert not left(tmp_path)


def test_what_a_library_makes_of_a_signal_is_still_the_signal(tmp_path: Path) -> None:
    done = single(tmp_path, "swallowed")
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "attnbench: stopped by SIGINT; the same command continues from there\n"


def test_a_run_of_a_sweep_that_is_stopped_before_it_has_a_record(tmp_path: Path, fakes: ModuleType) -> None:
    outcomes, lines = run(tmp_path, fakes, "stopped_while_starting", "swallowed", "finish")
    assert outcomes == [Outcome.interrupted, Outcome.interrupted, Outcome.finished]
    assert [line.partition("s: ")[2].rpartition(" (")[0] for line in lines if " interrupted after " in line] == [
        "Interrupted: stopped by SIGTERM",
        "Interrupted: stopped by SIGINT",
    ]
    assert not any("Traceback" in line for line in lines)


def test_a_sweep_whose_terminal_is_gone_saves_its_run(tmp_path: Path) -> None:
    """ssh breaks: writes fail with EIO, and then SIGHUP comes."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, str(HERE / "sweep_fakes.py"), str(tmp_path), "1", "wait", "finish"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    with os.fdopen(ours, "rb", closefd=False) as terminal:
        assert any(b"ready" in line for line in terminal)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 128 + signal.SIGHUP
    record = read_record(tmp_path / "0" / RECORD_FILE)
    assert (record.status, record.error and record.error["message"]) == (Status.interrupted, "stopped by SIGHUP")
    assert not left(tmp_path)


def test_a_fork_server_does_not_outlive_its_supervisor_while_it_imports(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "who")
    code = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import sweep_fakes
from pathlib import Path
from attnbench.sweeps.supervisor import supervise
if __name__ == "__main__":
    supervise(sweep_fakes.jobs(Path({str(tmp_path)!r}), sweep_fakes.finish), 1, preload=("endless_import",))
"""
    environment = os.environ | {"ENDLESS_IMPORT": str(tmp_path / "who"), "PYTHONPATH": str(HERE)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)
    server = int((tmp_path / "who").read_text())
    process.kill()
    process.wait()
    assert_gone(server)


def test_a_long_temporary_folder_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(
        [*DOOR, "-m", "seed=1", "sweep.name=small", "logger=none"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_one_rank_that_is_stopped_stops_the_run(tmp_path: Path, fakes: ModuleType) -> None:
    (job,) = fakes.jobs(tmp_path, fakes.second_stopped)
    job.config.trainer.devices = 2
    lines: list[str] = []
    assert attnbench.train.supervise([job], 1, print_function=lines.append) == [Outcome.interrupted]
    record = read_record(tmp_path / "0" / RECORD_FILE)
    assert record.status_label == FailureReason.interrupted
    assert record.error is not None
    assert record.error["message"] == "rank 1: stopped by SIGTERM"


def test_a_single_run_of_several_ranks_ends_with_the_status_of_the_signal(
    tmp_path: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = fakes.jobs(tmp_path, fakes.finish)
    write_final_status(create_record(job.config, []), tmp_path, Status.interrupted, build_signal_error(signal.SIGTERM))
    monkeypatch.setattr(attnbench.train, "validate_config", lambda cfg: job.config)
    monkeypatch.setattr(attnbench.train, "supervise", lambda *_, **__: [Outcome.interrupted])
    with interrupts.handle_signals(), pytest.raises(Interrupted) as stopped:
        attnbench.train.run_on_devices(DictConfig({}), tmp_path, [])
    assert stopped.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "attnbench: stopped by SIGTERM; the same command continues from there\n"


@pytest.mark.parametrize("where", ["/proc/x", "file", "x" * 300])
def test_a_single_run_whose_folder_cannot_be_made_is_a_sentence(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [*DOOR, "seed=1", f"paths.output={where}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"attnbench: {where}")


def test_a_record_that_could_not_be_closed_is_said_to_be_cut_off(tmp_path: Path, fakes: ModuleType) -> None:
    (job,) = fakes.jobs(tmp_path, fakes.finish)
    assert attnbench.train._describe_state(create_record(job.config, [])) == (
        "cut off",
        "how it ended could not be written to its record; the same command continues",
    )
    assert attnbench.train._describe_state(None)[0] == "not run"
