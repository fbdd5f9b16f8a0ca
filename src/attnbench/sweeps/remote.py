"""Runs handed elsewhere: to a queue of a cluster, whose jobs write the same records under the same leases as here."""

from __future__ import annotations

import contextlib
import datetime
import json
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NoReturn, Protocol, TypeVar

from attnbench.process import interrupts
from attnbench.records.lifecycle import build_exception_error, create_record, load_previous_record, write_final_status
from attnbench.records.record import FailureReason, Record, RecordError, Status
from attnbench.sweeps import retries
from attnbench.sweeps.display import Board, Counts, Outcome, Running, lasted, why
from attnbench.sweeps.lease import Lease, holder_of, take
from attnbench.sweeps.processes import Job
from attnbench.sweeps.retries import Task
from attnbench.sweeps.supervisor import outcome_of, supervise

_SUBMITTED = "submitted.json"  # in a run's folder: the queue's job that is to do it


@dataclass(frozen=True)
class Errand:
    """What is handed over, to be called there: the supervision of one job."""

    job: Job
    number: int
    total: int
    preload: tuple[str, ...]

    def __call__(self) -> None:
        """Do it, and let the record tell."""
        supervise([self.job], self.total, preload=self.preload, first=self.number)


class Handle(Protocol):
    """An errand that has been handed over, as its queue sees it."""

    @property
    def name(self) -> str:
        """What the queue calls it."""

    @property
    def log(self) -> str:
        """Where its output is to be found."""

    def ended(self) -> str | None:
        """How it ended, in the queue's words; None: it is waiting or running."""


H = TypeVar("H", bound=Handle)


class Queue(Protocol[H]):
    """What errands are handed to."""

    at_once: int | None  # how many are handed over at once; None: all, and the queue sees to the rest
    patience: float  # seconds between looks

    def submit(self, errands: Sequence[Errand]) -> Sequence[H]:
        """Hand them over."""

    def find(self, name: str) -> H | None:
        """The job of this name that an earlier command handed over, if it is still to come to its end."""

    def leave(self, handles: Sequence[H]) -> str:
        """This command is told to stop: see to it that what is handed over ends well, and say what becomes of it."""


def hand_over(
    jobs: Iterable[Job],
    total: int,
    queue: Queue[H],
    *,
    preload: Sequence[str] = (),
    first: int = 1,
    tell: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """As `supervise` does, but elsewhere: hand over what is not finished, wait, and say what became of each job.

    What another command has the lease of, or has handed over before, is waited for and not handed over again.

    Args:
        jobs: all of them, composed now.
        total: how many there are, for "job k of n".
        queue: where they go.
        preload: modules that every job needs.
        first: the number of the first job.
        tell: prints a line; None: print it, on a terminal above a live table.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP ended the waiting; a SystemExit with status 128 + signal.
    """
    tasks = [Task(number, f"[{number}/{total}]", job) for number, job in enumerate(jobs, first)]
    desk = _Desk(tasks, total, queue, tuple(preload), Board(tell))
    with interrupts.handle_signals():
        try:
            return desk.run()
        except interrupts.Interrupted as stop:
            desk.leave(stop.number)


class _Desk(Generic[H]):
    """Who hands over, waits, and tells."""

    def __init__(self, tasks: list[Task], total: int, queue: Queue[H], preload: tuple[str, ...], board: Board) -> None:
        self._waiting, self._out = tasks, list[tuple[Task, H]]()
        self._queue, self._preload = queue, preload
        self._board, self._counts = board, Counts(total)
        self._known: dict[Path, str] = {}  # folders, by who has them here
        self._said: set[int] = set()  # numbers of tasks of which was said that they run elsewhere

    def run(self) -> list[Outcome]:
        """Every job, until none is left."""
        while self._waiting or self._out:
            self._submit()
            self._draw()
            if self._waiting or self._out:
                time.sleep(self._queue.patience)
            for task, handle in tuple(self._out):
                ended = handle.ended()
                if ended is not None and not _is_alive(task.job.folder):
                    self._out.remove((task, handle))
                    self._end(task, handle, ended)
        self._board.draw()
        return self._counts.in_order()

    def leave(self, number: int) -> NoReturn:
        """Stop waiting."""
        self._board.draw()
        what = self._queue.leave([handle for _, handle in self._out])
        self._board.line(f"stopped by {signal.Signals(number).name}{what}; the same command goes on from there")
        interrupts.raise_interrupted(number, is_reported=True)

    def _submit(self) -> None:
        """Hand over what there is room for."""
        room = None if self._queue.at_once is None else self._queue.at_once - len(self._out)
        chosen: list[Task] = []
        for task in tuple(self._waiting):
            if room is not None and len(chosen) >= room:
                break
            if self._is_free(task):
                chosen.append(task)
                self._waiting.remove(task)
        if not chosen:
            return
        total = self._counts.total
        handles = self._queue.submit([Errand(task.job, task.number, total, self._preload) for task in chosen])
        for task, handle in zip(chosen, handles, strict=True):
            task.attempt += 1
            task.since = time.monotonic()
            self._out.append((task, handle))
            self._board.line(f"{task.name}{retries.again(task.before)}: handed over as {handle.name}")
            (task.job.folder / _SUBMITTED).write_text(json.dumps(handle.name), encoding="utf-8")

    def _is_free(self, task: Task) -> bool:
        """Whether a task may be handed over now; it is settled or taken up again here if it need not be."""
        folder = task.job.folder
        known = self._known.setdefault(folder, task.label)
        if known != task.label:
            self._settle(task, Outcome.skipped, f"{task.label} {task.job.title}: the same run as {known}")
            return False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            task.before = load_previous_record(folder)
        except (RecordError, OSError) as error:
            self._settle(
                task, Outcome.failed, f"{task.label} failed: {build_exception_error(error, folder)['message']}"
            )
            return False
        if task.before is not None and retries.is_over(task.job, task.before):
            self._settle(task, Outcome.skipped, f"{task.name}: skipped: {task.before.status_label}")
            return False
        earlier = self._queue.find(name) if (name := _submitted(folder)) is not None else None
        if earlier is not None:
            self._waiting.remove(task)
            task.since = time.monotonic()
            self._out.append((task, earlier))
            self._board.line(f"{task.name}: handed over before as {earlier.name}: waited for")
            return False
        if not _is_alive(folder):
            return True
        if task.number not in self._said:
            self._said.add(task.number)
            self._board.line(f"{task.name}: running elsewhere: {holder_of(folder)}; waited for")
        return False

    def _end(self, task: Task, handle: Handle, ended: str) -> None:
        """What became of a task whose job has ended; what its job could not say of it, or do, is done here."""
        (task.job.folder / _SUBMITTED).unlink(missing_ok=True)
        try:
            record = load_previous_record(task.job.folder)
            if record is None or record == task.before or record.status is Status.running:
                record = _close(task, record, f"{handle.name} ended ({ended}) without a word; its output: {handle.log}")
                again = retries.once_more(task, record)
                if again is not None:
                    self._board.line(
                        f"{task.label} {record.status_label}: {(record.error or {})['message']}; {again.said}"
                    )
                    self._waiting.append(task)
                    return
            self._conclude(task, record)
        except (RecordError, OSError) as error:
            self._settle(
                task, Outcome.failed, f"{task.label} failed: {build_exception_error(error, task.job.folder)['message']}"
            )

    def _conclude(self, task: Task, record: Record) -> None:
        """Say how a task ended."""
        seconds = _seconds(record)
        if record.status is Status.finished:
            self._counts.seconds.append(seconds)
            self._settle(task, Outcome.finished, f"{task.label} finished in {lasted(seconds)}")
            return
        line, outcome = retries.said_of(task, record, f"after {lasted(seconds)}"), outcome_of(record)
        self._settle(task, outcome, line, why(record.error or {}) if outcome is Outcome.failed else [])

    def _settle(self, task: Task, outcome: Outcome, line: str, more: Sequence[str] = ()) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(task)
        self._counts.outcomes[task.number] = outcome
        for text in (line, *more):
            self._board.line(text)

    def _draw(self) -> None:
        if self._board.live:
            rows = [Running(task.label, task.job.title, task.job.folder, task.seconds) for task, _ in self._out]
            self._board.draw(self._counts.line([row.seconds for row in rows], len(rows)), rows)


def _close(task: Task, record: Record | None, message: str) -> Record:
    """The record of a run whose job ended without a word; where somebody else has it meanwhile, theirs is the word."""
    job = task.job
    if record is None or record == task.before:
        record = create_record(job.config, job.overrides, task.before)
    error = {"kind": FailureReason.killed.value, "type": "Lost", "message": message, "traceback": ""}
    lease = take(job.folder, job.config.sweep.lease_seconds)
    if isinstance(lease, Lease):
        write_final_status(record, job.folder, Status.failed, error)
        lease.release()
    else:
        record.status, record.error = Status.failed, error
    return record


def _is_alive(folder: Path) -> bool:
    """Whether somebody is at work there, as far as a lease tells."""
    holder = holder_of(folder)
    return holder is not None and not holder.gone(time.time())


def _submitted(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _SUBMITTED).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _seconds(record: Record) -> float:
    """How long the last attempt at a run has taken, by its record."""
    started, ended = record.time["started"], record.time["ended"]
    if ended is None:  # by whoever has the run meanwhile
        return 0.0
    return (datetime.datetime.fromisoformat(ended) - datetime.datetime.fromisoformat(started)).total_seconds()
