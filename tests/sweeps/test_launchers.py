"""Runs that submitit does, on this machine and on as much of Slurm as it sees: their records, and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from attnbench.config import ConfigError
from attnbench.records.lifecycle import load_previous_record
from attnbench.records.record import FailureReason, Status
from attnbench.sweeps.display import Outcome
from attnbench.sweeps.lease import find_holder
from attnbench.sweeps.remote import submit_all
from attnbench.sweeps.remote_submitit import LocalOptions, SlurmOptions, SubmititQueue

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _findable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")])))


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HERE))
    import remote_fakes

    return remote_fakes


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import slurm_fake

    folder = tmp_path / "bin"
    slurm_fake.install(folder)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def local(folder: Path, at_once: int = 2) -> SubmititQueue:
    return SubmititQueue(folder, "small", LocalOptions(), at_once)


def status(folder: Path) -> tuple[Status, int]:
    record = load_previous_record(folder)
    assert record is not None
    return record.status, record.attempts


def test_records_tell_what_became_of_jobs(tmp_path: Path, fakes: ModuleType) -> None:
    printed: list[str] = []
    jobs = fakes.jobs(tmp_path, fakes.finish, fakes.fail, fakes.killed_once, retries=1)
    found = submit_all(jobs, 3, local(tmp_path), print_function=printed.append)
    assert found == [Outcome.finished, Outcome.failed, Outcome.finished]
    assert [status(job.folder) for job in jobs] == [(Status.finished, 1), (Status.failed, 2), (Status.finished, 2)]
    assert any(line.startswith("[2/3] failed after") and "RuntimeError: boom" in line for line in printed)
    printed.clear()
    assert submit_all(jobs[:1], 1, local(tmp_path), print_function=printed.append) == [Outcome.skipped]
    assert printed == ["[1/1] 0 seed=0: skipped: finished"]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_a_preempted_run_stops_and_goes_on(number: signal.Signals, tmp_path: Path, fakes: ModuleType) -> None:
    (tmp_path / "signal").write_text(str(int(number)))
    jobs = fakes.jobs(tmp_path, fakes.preempted)
    assert submit_all(jobs, 1, local(tmp_path), print_function=lambda _: None) == [Outcome.finished]
    assert status(jobs[0].folder) == (Status.finished, 2)


def test_a_job_that_vanishes_is_said_so_and_tried_again(tmp_path: Path, fakes: ModuleType) -> None:
    printed: list[str] = []
    jobs = fakes.jobs(tmp_path, fakes.bereaved_once)
    assert submit_all(jobs, 1, local(tmp_path), print_function=printed.append) == [Outcome.failed]
    record = load_previous_record(jobs[0].folder)
    assert record is not None
    assert record.error is not None
    assert record.status_label == FailureReason.killed
    assert "without reporting a result; its output: " in record.error["message"]
    (jobs[0].folder / "run.json").unlink()
    jobs = fakes.jobs(tmp_path, fakes.bereaved_once, retries=1)
    assert submit_all(jobs, 1, local(tmp_path), print_function=printed.append) == [Outcome.finished]


def test_a_command_that_is_stopped_stops_its_jobs_here(tmp_path: Path, fakes: ModuleType) -> None:
    printed: list[str] = []
    (tmp_path / "command").write_text(str(os.getpid()))
    jobs = fakes.jobs(tmp_path, fakes.stop_command)
    with pytest.raises(SystemExit) as stopped:
        submit_all(jobs, 1, local(tmp_path), print_function=printed.append)
    assert stopped.value.code == 128 + signal.SIGINT
    assert printed[-1] == "stopped by SIGINT; the same command continues from there"
    assert status(jobs[0].folder) == (Status.interrupted, 1)
    assert find_holder(jobs[0].folder) is None


def test_slurm_gets_one_array_and_requeues(tmp_path: Path, slurm: Path, fakes: ModuleType) -> None:
    (tmp_path / "signal").write_text(str(int(signal.SIGTERM)))
    options = SlurmOptions(partition="gpu", gpus_per_node=1, mem_gb=2, array_parallelism=3, setup=["true"])
    jobs = fakes.jobs(tmp_path, fakes.finish, fakes.preempted, fakes.fail)
    queue = SubmititQueue(tmp_path, "small", options, None)
    queue.poll_seconds = 0.2
    printed: list[str] = []
    assert submit_all(jobs, 3, queue, print_function=printed.append) == [
        Outcome.finished,
        Outcome.finished,
        Outcome.failed,
    ]
    assert status(jobs[1].folder) == (Status.finished, 2)
    assert printed[1] == "[2/3] 1 seed=1: submitted as Slurm job 77_1"
    said = (slurm / "script").read_text().splitlines()
    for flag in ("array=0-2%3", "gpus-per-node=1", "job-name=small", "mem=2GB", "partition=gpu", "time=240"):
        assert f"#SBATCH --{flag}" in said
    assert "#SBATCH --signal=USR2@120" in said


def test_a_job_that_slurm_has_is_waited_for_and_not_submitted_again(
    tmp_path: Path, slurm: Path, fakes: ModuleType
) -> None:
    jobs = fakes.jobs(tmp_path, fakes.stop_command)
    (tmp_path / "command").write_text(str(os.getpid()))
    printed: list[str] = []
    queue = SubmititQueue(tmp_path, "small", SlurmOptions(), None)
    with pytest.raises(SystemExit):
        submit_all(jobs, 1, queue, print_function=printed.append)
    assert "submitted jobs keep running (scancel 77 ends it); the same command continues from there" in printed[-1]
    holder = find_holder(jobs[0].folder)
    assert holder is not None
    queue = SubmititQueue(tmp_path, "small", SlurmOptions(), None)

    def tell(line: str) -> None:
        printed.append(line)
        if "waiting for it" in line:  # what scancel does
            (slurm / "state_77").write_text("CANCELLED")
            os.kill(next(iter(holder.processes)), signal.SIGTERM)

    found = submit_all(jobs, 1, queue, print_function=tell)
    assert "[1/1] 0 seed=0: already submitted as Slurm job 77: waiting for it" in printed
    assert found == [Outcome.interrupted]
    assert status(jobs[0].folder) == (Status.interrupted, 1)


def test_without_slurm_one_sentence_says_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="hydra/launcher=slurm: sbatch was not found"):
        SubmititQueue(tmp_path, "small", SlurmOptions(), None)


def test_hydra_s_own_launcher_skips_what_is_finished_and_outlives_a_failure(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "sweep_command.py"), "-m", "seed=1,2,3", "sweep.name=small"]

    def train(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    (tmp_path / "2.fail").touch()
    done = train("hydra/launcher=basic")
    assert done.returncode == 1, done.stderr
    assert "failed: RuntimeError: boom\n" in done.stdout
    assert done.stderr.splitlines()[-1].endswith(" seed=2: boom")
    (tmp_path / "2.fail").unlink()
    done = train("hydra/launcher=basic")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": skipped: finished\n") == 2
    assert train("hydra/launcher=basic", "trainer.devices=2", "trainer.strategy=ddp").returncode == 2
