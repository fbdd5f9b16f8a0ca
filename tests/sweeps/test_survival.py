"""A sweep ends as a whole table, or says of each missing cell why: retries, memory, hung runs, other commands."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from attnbench.config.tracking import OnOutOfMemory
from attnbench.process.interrupts import Interrupted
from attnbench.records.lifecycle import build_exception_error, build_exit_error, create_record
from attnbench.records.record import (
    RECORD_FILE,
    FailureReason,
    Plan,
    PlannedRun,
    Status,
    read_record,
    write_progress,
    write_record,
)
from attnbench.sweeps import retries
from attnbench.sweeps.display import Counts, LiveTable, Outcome, RunningRun, extract_error_lines
from attnbench.sweeps.lease import Lease, acquire_lease
from attnbench.sweeps.status import format_status

from .test_supervisor import assert_gone, run, supervisor

DOOR = Path(__file__).with_name("sweep_command.py")


def test_whatever_befalls_a_run_the_table_says_and_the_same_command_mends(tmp_path: Path) -> None:
    fates = ("2.fail", "3.killed", "4.diverge", "5.hungry", "6.refuse")
    for fate in fates:
        (tmp_path / fate).touch()
    command = [
        sys.executable,
        str(DOOR),
        "-m",
        "seed=range(1,7)",
        "sweep.name=small",
        "sweep.workers=2",
        "sweep.retries=1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    said = (tmp_path / "multirun" / "small" / "table.md").read_text()
    assert "5 of 6 runs are not included: 1 diverged, 1 failed, 1 killed, 1 out of memory, 1 refused." in said
    told = [line.split()[1:3] for line in done.stderr.splitlines()]
    assert [" ".join(words).partition(":")[0] for words in told] == [
        "failed", "killed", "diverged", "out of", "refused"
    ]  # fmt: skip
    assert done.stdout.count("again, attempt 2 of 2") == 2, "what raised and what was killed, and nothing else"
    for fate in fates:
        (tmp_path / fate).unlink()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("skipped: finished") == 1
    assert done.stdout.count(": again; it failed: ") == 5


def test_a_retry_counts_and_shows_what_the_run_had_said(tmp_path: Path, fakes: ModuleType) -> None:
    outcomes, lines = run(tmp_path, fakes, "killed_once", "killed", retries=1)
    assert outcomes == [Outcome.finished, Outcome.failed]
    assert [read_record(tmp_path / str(n) / RECORD_FILE).attempts for n in (0, 1)] == [2, 2]
    assert "so far so good" in lines
    (tmp_path / "again").mkdir()
    assert "    so far so good" in run(tmp_path / "again", fakes, "killed_once")[1], "the last lines of its log"


def test_a_batch_is_halved_until_it_fits(tmp_path: Path, fakes: ModuleType) -> None:
    outcomes, lines = run(tmp_path, fakes, "hungry", on_oom=OnOutOfMemory.halve_batch)
    assert outcomes == [Outcome.finished]
    size = fakes.jobs(tmp_path, fakes.hungry)[0].config.data.max_update_size
    tried = [line.rpartition("=")[2] for line in lines if "again with trainer.micro_batch_size=" in line]
    assert tried == [str(-(-size // 2**n)) for n in range(1, len(tried) + 1)]
    assert read_record(tmp_path / "0" / RECORD_FILE).overrides == [f"trainer.micro_batch_size={tried[-1]}"]
    assert int(tried[-1]) <= 1000 < 2 * int(tried[-1])


def test_what_a_run_had_come_down_to_is_where_the_next_command_begins(tmp_path: Path, fakes: ModuleType) -> None:
    (job,) = fakes.jobs(tmp_path, fakes.finish, on_oom=OnOutOfMemory.halve_batch)
    record = create_record(job.config, [*job.overrides, "trainer.micro_batch_size=7"])
    assert retries.find_halved_micro_batch_size(job, record) == 7
    assert retries.find_halved_micro_batch_size(job, create_record(job.config, job.overrides)) is None
    record.status, record.error = Status.failed, {"kind": FailureReason.memory}
    task, tried = retries.RunAttempt(1, "", job, micro_batch_size=7), []
    while (again := retries.decide_retry(task, record)) is not None:
        tried.append(again.micro_batch_size)
        task.micro_batch_size = again.micro_batch_size
    assert tried == [4, 2, 1]


def test_runs_at_once_leave_the_records_that_runs_in_turn_do(tmp_path: Path, fakes: ModuleType) -> None:
    for workers, name in ((1, "finish"), (2, "meet")):
        folder = tmp_path / str(workers)
        folder.mkdir()
        os.mkfifo(folder / "pipe")
        assert run(folder, fakes, name, name, workers=workers)[0] == [Outcome.finished] * 2
    one, two = ([read_record(tmp_path / w / str(n) / RECORD_FILE) for n in (0, 1)] for w in ("1", "2"))
    for alone, beside in zip(one, two, strict=True):
        assert (alone.run_id, alone.metrics, alone.status) == (beside.run_id, beside.metrics, beside.status)


@pytest.mark.parametrize(("set_by", "given"), [(None, ["trainer.num_threads=3"]), ("1", [])])
def test_cores_are_divided_unless_somebody_has_said_how_many(
    tmp_path: Path, fakes: ModuleType, monkeypatch: pytest.MonkeyPatch, set_by: str | None, given: list[str]
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if set_by is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by)
    (job,) = fakes.jobs(tmp_path, fakes.finish, workers=2)
    assert retries.build_placement_overrides(retries.RunAttempt(1, "", job), num_cores=7) == given


def test_a_signal_reaches_every_run_once(tmp_path: Path) -> None:
    with supervisor(tmp_path, "wait", "wait", "finish", workers=2) as (process, child):
        assert process.stdout is not None
        other = int(next(line for line in process.stdout if "ready" in line).split()[-1])
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM in runs 1, 2 of 3" in said or "stopped by SIGTERM in runs 2, 1 of 3" in said
    for pid in (child, other):
        assert_gone(pid)
    for n in ("0", "1"):
        assert read_record(tmp_path / n / RECORD_FILE).status is Status.interrupted
    assert not (tmp_path / "2").exists()


def test_two_commands_on_one_folder_do_each_run_once(tmp_path: Path, fakes: ModuleType) -> None:
    os.mkfifo(tmp_path / "pipe")
    names = ("hold", "finish_once", "fail")
    with supervisor(tmp_path, *names) as (first, _):
        second = subprocess.Popen(first.args, stdout=subprocess.PIPE, text=True)
        assert second.stdout is not None
        with second.stdout:
            said = [next(second.stdout) for _ in range(3)]
            assert "[1/3] 0 seed=0: running elsewhere: host" in said[0]
            assert f"pid {first.pid}; checked again at the end" in said[0]
            said.append(next(line for line in second.stdout if "[3/3] failed" in line))
            with (tmp_path / "pipe").open("wb"):
                pass
            told, _ = first.communicate(timeout=30)
            said += second.stdout
        assert second.wait() == first.returncode == 0
    assert "[1/3] finished" in told
    assert "[2/3] 1 seed=1: skipped: finished" in told
    assert "[3/3] 2 seed=2: failed elsewhere: boom" in told, "a command does not retry what another has just tried"
    assert "[1/3] 0 seed=0: skipped: finished elsewhere" in said[-1]
    assert {read_record(tmp_path / str(n) / RECORD_FILE).attempts for n in range(3)} == {1}


def test_a_run_does_not_outlive_the_fork_server_that_alone_knew_of_its_end(tmp_path: Path) -> None:
    with supervisor(tmp_path, "wait", "finish") as (process, child):
        server = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(server, signal.SIGKILL)
        process.communicate(timeout=30)
    assert_gone(child)
    assert [read_record(tmp_path / n / RECORD_FILE).status_label for n in ("0", "1")] == ["killed", "finished"]


def test_a_run_that_goes_nowhere_is_killed(tmp_path: Path, fakes: ModuleType) -> None:
    assert run(tmp_path, fakes, "deaf", hang_timeout_minutes=0.002)[0] == [Outcome.failed]
    error = read_record(tmp_path / "0" / RECORD_FILE).error
    assert error is not None
    assert error["kind"] == FailureReason.hung
    assert error["message"] == "no progress for 0.002 minutes (sweep.hang_timeout_minutes)"


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            FailureReason.disk_full,
            "here: no space left on device; free some space",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            FailureReason.not_writable,
            "/x: permission denied; change its permissions",
        ),
        (
            OutOfMemoryError("CUDA out of memory. Tried\nmore"),
            FailureReason.memory,
            "out of memory: CUDA out of memory. Tried;",
        ),
        (MemoryError(), FailureReason.memory, "out of memory: MemoryError; with -m, sweep.on_oom=halve_batch"),
        (
            RuntimeError("Function 'MulBackward0' returned nan values in its 0th output."),
            FailureReason.diverged,
            "Function",
        ),
        (KeyboardInterrupt(), FailureReason.interrupted, "stopped by SIGINT"),
        (Interrupted(signal.SIGHUP, "after update 3"), FailureReason.interrupted, "stopped by SIGHUP after update 3"),
        (SystemExit(1), FailureReason.interrupted, "a library has ended the process, with status 1"),
        (
            OSError(errno.EFBIG, "File too large", "/x"),
            FailureReason.disk_full,
            "/x: file too large; raise the limit on the size",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file"), FailureReason.raised, "[Errno 2] No such file"),
    ],
)
def test_an_exception_has_a_kind(error: BaseException, kind: FailureReason, message: str) -> None:
    found = build_exception_error(error, Path("here"))
    assert found["kind"] == kind
    assert found["message"].startswith(message)


def test_a_sentence_that_says_all_has_no_traceback_below_it() -> None:
    for kind in FailureReason:
        error = {"kind": kind.value, "message": "said", "traceback": "one\ntwo"}
        says_all = kind in (FailureReason.disk_full, FailureReason.not_writable, FailureReason.refused)
        assert extract_error_lines(error) == ([] if says_all else ["    one", "    two"])


def test_a_full_disk_is_found_behind_what_it_led_to() -> None:
    error = RuntimeError("unexpected pos 704 vs 598")  # as torch.save does
    error.__context__ = OSError(errno.ENOSPC, "No space left on device")
    assert build_exception_error(error, Path("here"))["kind"] == FailureReason.disk_full


def test_a_kill_when_memory_is_short_is_told_apart() -> None:
    assert build_exit_error(-signal.SIGKILL, is_out_of_memory=True)["kind"] == FailureReason.perhaps_memory
    assert (
        build_exit_error(-signal.SIGSEGV, is_out_of_memory=True)["kind"]
        == build_exit_error(3)["kind"]
        == FailureReason.killed
    )


def test_status_tells_what_became_of_each_run(tmp_path: Path, fakes: ModuleType) -> None:
    run(tmp_path, fakes, "finish", "killed", "finish", "finish", retries=1)
    cut_off = read_record(tmp_path / "2" / RECORD_FILE)
    cut_off.status = Status.running
    write_record(cut_off, tmp_path / "2")
    runs = [PlannedRun(str(n), [f"seed={n}"], {}) for n in range(5)]
    write_record(Plan(2, "small", [], runs), tmp_path)
    assert isinstance(acquire_lease(tmp_path / "3", 60.0), Lease)
    write_progress(tmp_path / "3", 30, 120)
    said = format_status(tmp_path).splitlines()
    assert said[0].split() == ["1", "0", "finished", "seed=0", "trained", "0", "s"]
    assert said[1].split()[2:4] == ["killed", "seed=1"]
    assert said[1].endswith("killed by signal 9 (Killed); 2 attempts")
    assert said[2].split()[2:5] == ["cut", "off", "seed=2"]
    assert said[3].split(maxsplit=2)[2].startswith("running   seed=3  update 30 of 120 (25%); host ")
    assert said[4].endswith("not run   seed=4")
    assert said[5].startswith("sweep small: 5 runs: ")


def test_status_is_a_door_that_opens_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "attnbench.status", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'plan.json'}: cannot be read")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "hydra", "omegaconf", "numpy", "yaml"}


def test_a_live_table_stays_below_the_lines_and_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for name, value in {"COLUMNS": "60", "LINES": "20", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    board, counts = LiveTable(), Counts(5, {1: Outcome.pruned, 2: Outcome.failed}, [10.0, 20.0])
    write_progress(tmp_path, 3, 4)
    board.update(counts.format_totals([5.0], workers=2), [RunningRun("[2/5]", "seed=2", tmp_path, 5.0)])
    board.print_line("a line " + "which is longer than the terminal " * 2)
    board.update()
    board.print_line("after the table")
    rows = ["5 runs: 1 done, 1 running, 1 failed, 2 left; about 20 s rem…", "[2/5]  seed=2  update 3 of 4 (75%)  5 s"]
    assert show_on_terminal(capsys.readouterr().out) == [
        "a line " + "which is longer than the terminal " * 2, "after the table",
    ], "the table is gone"  # fmt: skip
    board.update(counts.format_totals([5.0], workers=2), [RunningRun("[2/5]", "seed=2", tmp_path, 5.0)])
    board.print_line("above")
    assert show_on_terminal(capsys.readouterr().out) == ["above", *rows]
    board.update()


def show_on_terminal(output: str) -> list[str]:
    """Return the lines that a terminal shows after an output with control sequences for whole lines."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", output):
        if part == "\x1b[2K":
            lines[row] = ""
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part[0] not in "\r\x1b":
            lines[row] += part
    return [line for line in lines if line]
