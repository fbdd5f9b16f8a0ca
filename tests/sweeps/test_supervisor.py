"""Each run in a process of its own: what becomes of it, and of the others."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from attnbench.records.lifecycle import build_exit_error
from attnbench.records.record import PLAN_FILE, RECORD_FILE, Status, read_record
from attnbench.sweeps.display import Outcome
from attnbench.sweeps.supervisor import supervise

SCRIPT = Path(__file__).with_name("sweep_fakes.py")


def run(folder: Path, module: ModuleType, *names: str, **sweep: Any) -> tuple[list[Outcome], list[str]]:
    lines: list[str] = []
    jobs = module.jobs(folder, *(getattr(module, name) for name in names), **sweep)
    return supervise(jobs, len(jobs), print_function=lines.append), lines


@contextmanager
def supervisor(folder: Path, *names: str, workers: int = 1) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A supervisor in a process group of its own, and the id of its first job's process, which waits."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(workers), *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    assert process.stdout is not None
    try:
        said = next((line for line in process.stdout if "ready" in line), "")
        assert said, "no job began"
        yield process, int(said.split()[-1])
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()


def assert_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 20)[0], f"process {pid} lives on"
    finally:
        os.close(descriptor)


def test_one_failure_does_not_stop_the_others(tmp_path: Path, fakes: ModuleType) -> None:
    outcomes, lines = run(tmp_path, fakes, "finish", "fail", "killed", "leave", "fail_early", "finish")
    assert outcomes == [
        Outcome.finished, Outcome.failed, Outcome.failed, Outcome.failed, Outcome.failed, Outcome.finished
    ]  # fmt: skip
    said = [line for line in lines if " failed after " in line]
    assert [line.partition("s: ")[2].rpartition(" (")[0] for line in said] == [
        "RuntimeError: boom",
        "Killed: killed by signal 9 (Killed)",
        "Exited: exited with status 3",
        "ImportError: no module named torch",
    ]
    assert lines[0].startswith("[1/6] 0 seed=0")


def test_a_run_leaves_a_record_even_if_it_could_not_write_one(tmp_path: Path, fakes: ModuleType) -> None:
    run(tmp_path, fakes, "killed", "leave", "fail_early", "fail")
    records = [read_record(tmp_path / str(n) / RECORD_FILE) for n in range(4)]
    assert [record.status for record in records] == [Status.failed] * 4
    assert [record.error["type"] for record in records if record.error] == [
        "Killed", "Exited", "ImportError", "RuntimeError"
    ]  # fmt: skip
    assert records[2].error is not None
    assert "fail_early" in records[2].error["traceback"]
    assert records[3].error is not None
    assert records[3].error["traceback"] == "there", "the run's own record is kept"
    assert all(record.time["ended"] for record in records)


def test_an_instruction_that_the_machine_lacks_is_told_with_the_way_on() -> None:
    message = build_exit_error(-signal.SIGILL)["message"]
    assert message.startswith("killed by signal 4 (Illegal instruction): ")
    assert "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16" in message
    assert build_exit_error(-signal.SIGKILL)["message"] == "killed by signal 9 (Killed)"


def test_an_endless_message_does_not_block(tmp_path: Path, fakes: ModuleType) -> None:
    outcomes, lines = run(tmp_path, fakes, "fail_at_length")
    assert outcomes == [Outcome.failed]
    assert len(lines[1]) < 3_000


def test_what_is_finished_is_not_run_again_and_the_rest_is(tmp_path: Path, fakes: ModuleType) -> None:
    run(tmp_path, fakes, "finish", "killed", "fail", "leave")
    before = (tmp_path / "0" / RECORD_FILE).read_bytes()
    outcomes, lines = run(tmp_path, fakes, "fail", "finish", "finish", "finish")
    assert outcomes == [Outcome.skipped, *[Outcome.finished] * 3]
    assert lines[0] == "[1/4] 0 seed=0: skipped: finished"
    assert (tmp_path / "0" / RECORD_FILE).read_bytes() == before


def test_nothing_is_imported_where_all_runs_are_finished(
    tmp_path: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = fakes.jobs(tmp_path, fakes.finish, fakes.finish)
    for job in jobs:
        job.folder.mkdir()
        fakes.finish(job.config, job.folder)
    served: list[object] = []
    monkeypatch.setattr("attnbench.sweeps.supervisor.start_fork_server", served.append)
    assert supervise(jobs, 2, preload=("torch",)) == [Outcome.skipped, Outcome.skipped]
    assert not served


def test_an_old_failure_is_not_taken_for_a_new_one(tmp_path: Path, fakes: ModuleType) -> None:
    run(tmp_path, fakes, "fail")
    run(tmp_path, fakes, "leave")
    error = read_record(tmp_path / "0" / RECORD_FILE).error
    assert error is not None
    assert error["message"] == "exited with status 3"


def test_a_record_that_cannot_be_read_is_not_written_over(tmp_path: Path, fakes: ModuleType) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / RECORD_FILE).write_text('{"schema_version": 99}')
    outcomes, lines = run(tmp_path, fakes, "finish", "finish")
    assert outcomes == [Outcome.failed, Outcome.finished]
    assert "schema version 99" in lines[0]
    assert (tmp_path / "0" / RECORD_FILE).read_text() == '{"schema_version": 99}'


def test_the_same_run_twice_is_done_once(tmp_path: Path, fakes: ModuleType) -> None:
    job = fakes.jobs(tmp_path, fakes.fail)[0]
    lines: list[str] = []
    assert supervise([job, job], 2, print_function=lines.append) == [Outcome.failed, Outcome.skipped]
    assert lines[-1] == "[2/2] seed=0: the same run as [1/2]"


def test_signal_handlers_are_given_back(tmp_path: Path, fakes: ModuleType) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    run(tmp_path, fakes, "finish")
    assert [signal.getsignal(number) for number in numbers] == before
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(numbers)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("group", [False, True], ids=["supervisor", "process group"])
def test_a_signal_stops_the_run_once_and_the_sweep(tmp_path: Path, number: signal.Signals, group: bool) -> None:
    with supervisor(tmp_path, "wait", "finish") as (process, child):
        (os.killpg if group else os.kill)(process.pid, number)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name} in run 1 of 2" in said
    assert "the same command continues" in said
    assert_gone(child)
    record = read_record(tmp_path / "0" / RECORD_FILE)
    assert record.status is Status.interrupted
    assert record.error is not None
    assert (record.error["type"], record.error["message"]) == ("Interrupted", f"stopped by {number.name}")
    assert not (tmp_path / "1").exists(), "the next run is not begun"


def test_a_run_that_does_not_stop_is_killed_by_the_third_signal(tmp_path: Path) -> None:
    with supervisor(tmp_path, "deaf") as (process, child):
        assert process.stdout is not None
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
            assert next(line for line in process.stdout if line.startswith("no"))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert_gone(child)
    record = read_record(tmp_path / "0" / RECORD_FILE)
    assert record.status is Status.interrupted
    assert record.error is not None
    assert record.error["message"] == "stopped by SIGTERM"


def test_a_run_does_not_outlive_its_supervisor(tmp_path: Path, fakes: ModuleType) -> None:
    with supervisor(tmp_path, "wait") as (process, child):
        process.kill()
        process.wait()
        assert_gone(child)
    assert read_record(tmp_path / "0" / RECORD_FILE).status is Status.running, "nobody was left to say otherwise"
    assert run(tmp_path, fakes, "finish")[0] == [Outcome.finished], "the same command continues"


def test_no_draft_is_left(tmp_path: Path, fakes: ModuleType) -> None:
    run(tmp_path, fakes, "finish", "killed")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [RECORD_FILE, RECORD_FILE]
    assert not (tmp_path / PLAN_FILE).exists()
