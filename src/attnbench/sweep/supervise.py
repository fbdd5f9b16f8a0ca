"""Runs the jobs of a sweep, one after another, each in a process that cannot take the others with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from attnbench.config import Config
from attnbench.record import Record, RecordError, Status
from attnbench.sweep.records import close, death, last_record, new_record, stop

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 2  # signals that a run may take its time over; the next one kills it


@dataclass(frozen=True)
class Job:
    """One run: where its record goes, and what to call (picklable) in a process of its own."""

    title: str  # what tells it from the others
    overrides: list[str]
    config: Config
    folder: Path
    target: Callable[..., object]
    args: tuple[Any, ...] = ()


class Outcome(Enum):
    """What became of a job."""

    finished = "finished"
    skipped = "skipped"  # finished before
    failed = "failed"
    interrupted = "interrupted"


def supervise(
    jobs: Iterable[Job],
    total: int,
    *,
    preload: Sequence[str] = (),
    first: int = 1,
    tell: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[Outcome]:
    """Run what is not finished, and say what became of each job; a failure does not stop the others.

    What is costly to import is imported once, into a fork server from which every job's process starts.

    Args:
        jobs: taken one by one, as they are started.
        total: how many there are, for "job k of n".
        preload: modules that every job needs; they must start no thread when imported.
        first: the number of the first job.
        tell: prints a line.

    Raises:
        SystemExit: Ctrl-C, SIGTERM or SIGHUP was passed on to the running job, which has ended; status
            128 + signal.
    """
    forkserver.set_forkserver_preload(list(preload))
    outcomes: list[Outcome] = []
    done: dict[Path, str] = {}
    with _Supervisor() as supervisor:
        for number, job in enumerate(jobs, first):
            label = f"[{number}/{total}]"
            if supervisor.stopped is not None:
                _leave(supervisor.stopped, f"before run {number} of {total}", tell)
            if job.folder in done:
                tell(f"{label} {job.title}: the same run as {done[job.folder]}")
                outcomes.append(Outcome.skipped)
                continue
            done[job.folder] = label
            outcomes.append(_one(supervisor, job, label, tell))
            if supervisor.stopped is not None:
                _leave(supervisor.stopped, f"in run {number} of {total} ({job.folder})", tell)
    return outcomes


def exit_on_sigterm() -> None:
    """Let SIGTERM unwind this process as Ctrl-C does, so that what must be written at the end is written."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def _leave(number: int, where: str, tell: Callable[[str], None]) -> NoReturn:
    tell(f"stopped by {signal.Signals(number).name} {where}; the same command goes on from there")
    raise SystemExit(128 + number)


def _one(supervisor: _Supervisor, job: Job, label: str, tell: Callable[[str], None]) -> Outcome:
    """Run one job if it needs to be, and tell how it went."""
    name = f"{label} {job.folder.name} {job.title}".rstrip()
    try:
        before = last_record(job.folder)
        if before is not None and before.status is Status.finished:
            tell(f"{name}: skipped: finished")
            return Outcome.skipped
        tell(name)
        started = time.monotonic()
        exitcode, said = supervisor.run(job)
        record = _settle(job, before, exitcode, said, supervisor.stopped)
    except RecordError as error:
        tell(f"{label} failed: {error}")
        return Outcome.failed
    took = _lasted(time.monotonic() - started)
    if record.status is Status.finished:
        tell(f"{label} finished in {took}")
        return Outcome.finished
    why = record.error or {"type": "", "message": ""}
    tell(f"{label} {record.status.value} after {took}: {why['type']}: {why['message']} ({job.folder})")
    return Outcome.interrupted if record.status is Status.interrupted else Outcome.failed


def _settle(job: Job, before: Record | None, exitcode: int, said: dict[str, str] | None, stopped: int | None) -> Record:
    """The record of a job whose process has ended, completed where the process could not do so."""
    record = last_record(job.folder)
    if record is not None and record != before and record.status is not Status.running:
        return record
    if record is None:
        record = new_record(job.config, job.overrides)
    if stopped is not None:
        close(record, job.folder, Status.interrupted, stop(stopped))
    else:
        close(record, job.folder, Status.failed, said or death(exitcode))
    return record


def _lasted(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


class _Supervisor:
    """One child at a time, and the signals: the child gets each once, from here and not from the terminal."""

    def __init__(self) -> None:
        self.stopped: int | None = None
        self._pid: int | None = None
        self._asked = 0
        self._handlers: dict[int, Any] = {}
        self._context = multiprocessing.get_context("forkserver")

    def __enter__(self) -> _Supervisor:
        for number in _SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                self._handlers[number] = signal.signal(number, self._pass_on)
        # The fork server inherits the mask and keeps it, so that a signal to the whole process group does not
        # end it under a job; each job unblocks them when it is ready to be stopped, and until then they wait.
        resource_tracker.ensure_running()  # first: it unblocks signals when it starts
        with _blocked():
            forkserver.ensure_running()
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def run(self, job: Job) -> tuple[int, dict[str, str] | None]:
        """Start, wait; the exit code as multiprocessing has it, and the exception, if one ended it."""
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(sender, job.target, job.args))
        with receiver:
            with sender:
                process.start()
            with _blocked():
                self._pid = process.pid
                if self.stopped is not None:  # while it was being started
                    self._send(self.stopped)
            process.join()
            self._pid = None
            try:
                said = receiver.recv() if receiver.poll() else None
            except EOFError:
                said = None
        assert process.exitcode is not None
        return process.exitcode, said

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.stopped = self.stopped or number
        # Not print: it may be print that was interrupted.
        os.write(2, b"\nattnbench: stopping once the run is saved; once more to hurry\n")
        if self._pid is not None:
            self._send(number)

    def _send(self, number: int) -> None:
        assert self._pid is not None
        self._asked += 1
        gentle = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, gentle if self._asked <= _PATIENCE else signal.SIGKILL)


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    """Hold our signals back for a moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(sender: Connection, target: Callable[..., object], args: tuple[Any, ...]) -> None:
    """A job's process, from its first line to its last."""
    os.setpgid(0, 0)  # out of reach of the terminal's Ctrl-C: the supervisor passes it on
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exit_on_sigterm()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    with sender:
        try:
            target(*args)
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None
        except Exception as error:
            text = "".join(traceback.format_exception(error))[-10_000:]  # so that a pipe holds it unread
            sender.send({"type": type(error).__name__, "message": str(error)[:2_000], "traceback": text})
            raise SystemExit(1) from None


def _die_with_parent() -> None:
    """A run whose supervisor is gone would train on unseen, and beside the next command's."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
