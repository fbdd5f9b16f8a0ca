"""Runs on remote job queues (clusters); their jobs write the same records under the same leases as local runs."""

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
from attnbench.sweeps.display import Counts, LiveTable, Outcome, RunningRun, extract_error_lines, format_duration
from attnbench.sweeps.lease import Lease, acquire_lease, find_holder
from attnbench.sweeps.processes import Job
from attnbench.sweeps.retries import RunAttempt
from attnbench.sweeps.supervisor import get_outcome, supervise

_SUBMITTED_FILE = "submitted.json"  # in a run's folder: name of the submitted job


@dataclass(frozen=True)
class RemoteJob:
    """Picklable function that supervises one run on the remote side."""

    job: Job
    number: int
    total: int
    preload: tuple[str, ...]

    def __call__(self) -> None:
        """Supervise the run; its record says how it ended."""
        supervise([self.job], self.total, preload=self.preload, first=self.number)


class JobHandle(Protocol):
    """Protocol of a submitted job."""

    @property
    def name(self) -> str:
        """Name of the job in its queue."""

    @property
    def log(self) -> str:
        """Path of the job's output."""

    def describe_end(self) -> str | None:
        """Return how the job ended, in the queue's words; None while it waits or runs."""


H = TypeVar("H", bound=JobHandle)


class JobQueue(Protocol[H]):
    """Protocol of a job queue."""

    max_parallel: int | None  # largest number of submitted jobs; None: all at once
    poll_seconds: float  # seconds between two checks

    def submit(self, jobs: Sequence[RemoteJob]) -> Sequence[H]:
        """Submit jobs."""

    def find(self, name: str) -> H | None:
        """Return the unfinished job of this name that an earlier command submitted; None if there is none."""

    def stop_waiting(self, handles: Sequence[H]) -> str:
        """Handle an interruption of this command.

        Stop the jobs or let them continue, and return a message that says which.
        """


def submit_all(
    jobs: Iterable[Job],
    total: int,
    queue: JobQueue[H],
    *,
    preload: Sequence[str] = (),
    first: int = 1,
    print_function: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Submit all unfinished runs, wait, and return their outcomes; the remote counterpart of `supervise`.

    Runs that another command holds, or has submitted before, are waited for and not submitted again.

    Args:
        jobs: all runs.
        total: number of runs, for "run k of n".
        queue: job queue.
        preload: modules that every job imports first.
        first: number of the first run.
        print_function: prints a line; None: print to standard output, with a live table on a
            terminal.

    Raises:
        Interrupted: if SIGINT, SIGTERM or SIGHUP ended the waiting; a SystemExit with status 128 + signal.
    """
    tasks = [RunAttempt(number, f"[{number}/{total}]", job) for number, job in enumerate(jobs, first)]
    desk = _RemoteScheduler(tasks, total, queue, tuple(preload), LiveTable(print_function))
    with interrupts.handle_signals():
        try:
            return desk.run()
        except interrupts.Interrupted as stop:
            desk.stop_waiting(stop.number)


class _RemoteScheduler(Generic[H]):
    """Submits runs, waits for them and reports their results."""

    def __init__(
        self, tasks: list[RunAttempt], total: int, queue: JobQueue[H], preload: tuple[str, ...], board: LiveTable
    ) -> None:
        self._waiting, self._out = tasks, list[tuple[RunAttempt, H]]()
        self._queue, self._preload = queue, preload
        self._board, self._counts = board, Counts(total)
        self._known: dict[Path, str] = {}  # folder of each run, by label
        self._said: set[int] = set()  # numbers of runs that were reported as running elsewhere

    def run(self) -> list[Outcome]:
        """Run the loop until all runs are settled, and return their outcomes."""
        while self._waiting or self._out:
            self._submit_ready()
            self._update_table()
            if self._waiting or self._out:
                time.sleep(self._queue.poll_seconds)
            for task, handle in tuple(self._out):
                ended = handle.describe_end()
                if ended is not None and not _has_holder(task.job.folder):
                    self._out.remove((task, handle))
                    self._handle_end(task, handle, ended)
        self._board.update()
        return self._counts.list_outcomes()

    def stop_waiting(self, number: int) -> NoReturn:
        """Stop waiting after a signal."""
        self._board.update()
        what = self._queue.stop_waiting([handle for _, handle in self._out])
        self._board.print_line(f"stopped by {signal.Signals(number).name}{what}; the same command continues from there")
        interrupts.raise_interrupted(number, is_reported=True)

    def _submit_ready(self) -> None:
        """Submit as many runs as the queue has space for."""
        space = None if self._queue.max_parallel is None else self._queue.max_parallel - len(self._out)
        chosen: list[RunAttempt] = []
        for task in tuple(self._waiting):
            if space is not None and len(chosen) >= space:
                break
            if self._can_submit(task):
                chosen.append(task)
                self._waiting.remove(task)
        if not chosen:
            return
        total = self._counts.total
        handles = self._queue.submit([RemoteJob(task.job, task.number, total, self._preload) for task in chosen])
        for task, handle in zip(chosen, handles, strict=True):
            task.attempt += 1
            task.started_at = time.monotonic()
            self._out.append((task, handle))
            self._board.print_line(
                f"{task.name}{retries.describe_resumption(task.previous_record)}: submitted as {handle.name}"
            )
            (task.job.folder / _SUBMITTED_FILE).write_text(json.dumps(handle.name), encoding="utf-8")

    def _can_submit(self, task: RunAttempt) -> bool:
        """Return True if a run may be submitted now; handle finished runs and runs that other commands hold."""
        folder = task.job.folder
        known = self._known.setdefault(folder, task.label)
        if known != task.label:
            self._settle_job(task, Outcome.skipped, f"{task.label} {task.job.title}: the same run as {known}")
            return False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            task.previous_record = load_previous_record(folder)
        except (RecordError, OSError) as error:
            self._settle_job(
                task, Outcome.failed, f"{task.label} failed: {build_exception_error(error, folder)['message']}"
            )
            return False
        if task.previous_record is not None and retries.needs_no_run(task.job, task.previous_record):
            self._settle_job(task, Outcome.skipped, f"{task.name}: skipped: {task.previous_record.status_label}")
            return False
        earlier = self._queue.find(name) if (name := _read_submitted_name(folder)) is not None else None
        if earlier is not None:
            self._waiting.remove(task)
            task.started_at = time.monotonic()
            self._out.append((task, earlier))
            self._board.print_line(f"{task.name}: already submitted as {earlier.name}: waiting for it")
            return False
        if not _has_holder(folder):
            return True
        if task.number not in self._said:
            self._said.add(task.number)
            self._board.print_line(f"{task.name}: running elsewhere: {find_holder(folder)}; waited for")
        return False

    def _handle_end(self, task: RunAttempt, handle: JobHandle, ended: str) -> None:
        """Handle the end of a submitted job, and complete its record if the job could not."""
        (task.job.folder / _SUBMITTED_FILE).unlink(missing_ok=True)
        try:
            record = load_previous_record(task.job.folder)
            if record is None or record == task.previous_record or record.status is Status.running:
                record = _complete_record(
                    task, record, f"{handle.name} ended ({ended}) without reporting a result; its output: {handle.log}"
                )
                again = retries.decide_retry(task, record)
                if again is not None:
                    self._board.print_line(
                        f"{task.label} {record.status_label}: {(record.error or {})['message']}; {again.message}"
                    )
                    self._waiting.append(task)
                    return
            self._report_result(task, record)
        except (RecordError, OSError) as error:
            self._settle_job(
                task, Outcome.failed, f"{task.label} failed: {build_exception_error(error, task.job.folder)['message']}"
            )

    def _report_result(self, task: RunAttempt, record: Record) -> None:
        """Report the result of a run."""
        seconds = _get_attempt_seconds(record)
        if record.status is Status.finished:
            self._counts.seconds.append(seconds)
            self._settle_job(task, Outcome.finished, f"{task.label} finished in {format_duration(seconds)}")
            return
        line, outcome = retries.describe_failure(task, record, f"after {format_duration(seconds)}"), get_outcome(record)
        self._settle_job(
            task, outcome, line, extract_error_lines(record.error or {}) if outcome is Outcome.failed else []
        )

    def _settle_job(self, task: RunAttempt, outcome: Outcome, line: str, more: Sequence[str] = ()) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(task)
        self._counts.outcomes[task.number] = outcome
        for text in (line, *more):
            self._board.print_line(text)

    def _update_table(self) -> None:
        if self._board.live:
            rows = [RunningRun(task.label, task.job.title, task.job.folder, task.seconds) for task, _ in self._out]
            self._board.update(self._counts.format_totals([row.seconds for row in rows], len(rows)), rows)


def _complete_record(task: RunAttempt, record: Record | None, message: str) -> Record:
    """Complete the record of a run whose job ended without a result.

    If another command holds the run, return its record.
    """
    job = task.job
    if record is None or record == task.previous_record:
        record = create_record(job.config, job.overrides, task.previous_record)
    error = {"kind": FailureReason.killed.value, "type": "Lost", "message": message, "traceback": ""}
    lease = acquire_lease(job.folder, job.config.sweep.lease_seconds)
    if isinstance(lease, Lease):
        write_final_status(record, job.folder, Status.failed, error)
        lease.release()
    else:
        record.status, record.error = Status.failed, error
    return record


def _has_holder(folder: Path) -> bool:
    """Return True if a process holds the lease on the folder."""
    holder = find_holder(folder)
    return holder is not None and not holder.is_gone(time.time())


def _read_submitted_name(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / _SUBMITTED_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _get_attempt_seconds(record: Record) -> float:
    """Return the seconds of the last attempt at a run, from its record."""
    started, ended = record.time["started"], record.time["ended"]
    if ended is None:  # another command has the run
        return 0.0
    return (datetime.datetime.fromisoformat(ended) - datetime.datetime.fromisoformat(started)).total_seconds()
