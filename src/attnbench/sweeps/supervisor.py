"""Supervisor of a sweep: runs several jobs at once, each in its own process, so that a crash affects only one run.

On a remote queue, the remote side calls `supervise` with one job; leases, retries and records are the same as here.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import NoReturn

from attnbench.process import interrupts
from attnbench.process.output import protect_output
from attnbench.records.identity import count_cores
from attnbench.records.lifecycle import build_exception_error, load_previous_record, remove_temporary_files
from attnbench.records.record import RECORD_FILE, FailureReason, Record, RecordError, Status
from attnbench.sweeps import retries
from attnbench.sweeps.display import Counts, LiveTable, Outcome, RunningRun, extract_error_lines, format_duration
from attnbench.sweeps.lease import Lease, LeaseHolder, acquire_lease, remove_expired_lease
from attnbench.sweeps.processes import Job, JobProcesses, start_fork_server
from attnbench.sweeps.retries import RunAttempt
from attnbench.sweeps.stop_signals import SignalWatch, block_signals

_POLL_SECONDS = 1.0  # seconds between checks of other commands' runs, and between updates of the table


def supervise(
    jobs: Iterable[Job],
    total: int,
    *,
    preload: Sequence[str] = (),
    first: int = 1,
    print_function: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Run all unfinished jobs and return their outcomes; a failed run does not stop the others.

    Slow imports happen once, in a fork server that every job's process starts from. `sweep` in each job's config says
    how many runs run at once and how failures are handled. Runs that another command holds are waited for at the end.

    Args:
        jobs: runs, taken one by one when they are started.
        total: number of runs, for "run k of n".
        preload: modules that every job needs; importing them must not start threads.
        first: number of the first run.
        print_function: prints a line; None: print to standard output, with a live table on a
            terminal.

    Raises:
        Interrupted: if SIGINT, SIGTERM or SIGHUP was passed on to the running jobs, which have ended; a SystemExit
            with status 128 + signal.
    """
    protect_output()
    tasks = (RunAttempt(number, f"[{number}/{total}]", job) for number, job in enumerate(jobs, first))
    with _Supervisor(tasks, total, LiveTable(print_function), preload) as supervisor:
        return supervisor.run()


@dataclass(frozen=True)
class _ActiveRun:
    """A run with its current processes and lease."""

    task: RunAttempt
    lease: Lease
    processes: JobProcesses


class _Supervisor:
    """Event loop over the running jobs; it forwards each signal once to each job."""

    def __init__(self, tasks: Iterator[RunAttempt], total: int, board: LiveTable, preload: Sequence[str]) -> None:
        self._tasks, self._more = tasks, True
        self._preload = preload
        self._next: RunAttempt | None = None
        self._board, self._counts = board, Counts(total)
        self._watch = SignalWatch(self._forward_signal)
        self._active: tuple[_ActiveRun, ...] = ()  # replaced as a whole, because a signal may come at any time
        self._elsewhere: list[RunAttempt] = []
        self._known: dict[Path, str] = {}  # folder of each run, by label
        self._records: dict[Path, int] | None = None  # modification time of each record when this command started
        self._workers = 1
        self._last = 0  # number of the last task taken
        self._interrupted: list[RunAttempt] = []  # runs that a signal ended

    def __enter__(self) -> _Supervisor:
        self._watch.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        for active in self._active:  # an error in the supervisor: end the processes that it can no longer watch
            active.processes.kill()
        self._board.update()
        self._watch.__exit__(*exception)

    def run(self) -> list[Outcome]:
        """Run the loop until all runs are settled or a signal stops it, and return the outcomes."""
        self._start_ready()
        while self._active or (self._elsewhere and self._watch.stop_signal is None):
            self._wait_for_event()
            self._start_ready()
        if self._watch.stop_signal is not None:
            self._stop_sweep(self._watch.stop_signal)
        return self._counts.list_outcomes()

    def _start_ready(self) -> None:
        """Start as many runs as there is space for; runs that other commands hold are checked again at the end."""
        while self._watch.stop_signal is None and self._more and len(self._active) < self._workers:
            self._prepare_next()
            task, self._next = self._next, None
            if task is None:
                break
            self._last = task.number
            self._workers = task.job.config.sweep.workers
            if task.job.folder in self._known:
                same = self._known[task.job.folder]
                self._settle_run(task, Outcome.skipped, f"{task.label} {task.job.title}: the same run as {same}")
                continue
            self._known[task.job.folder] = task.label
            self._start_or_skip(task)
        if not self._more:
            for task in tuple(self._elsewhere):
                if self._watch.stop_signal is None and len(self._active) < self._workers:
                    self._start_or_skip(task)
        self._update_table()

    def _prepare_next(self) -> None:
        """Prepare the next run while others run, because composing its config takes time."""
        if self._next is None and self._more:
            self._next = next(self._tasks, None)
            self._more = self._next is not None

    def _start_or_skip(self, task: RunAttempt) -> None:
        """Start a run unless it is finished or another command holds it."""
        folder, lease = task.job.folder, None
        try:
            if self._needs_no_run(task):
                return
            lease = acquire_lease(folder, task.job.config.sweep.lease_seconds)
            if isinstance(lease, LeaseHolder):
                self._defer_run(task, lease)
                return
            if self._needs_no_run(task):  # finished meanwhile by the holder of the lease
                lease.release()
                return
            remove_temporary_files(folder)
            task.previous_record = load_previous_record(folder)
            task.micro_batch_size = retries.find_halved_micro_batch_size(task.job, task.previous_record)
            self._board.print_line(f"{task.name}{retries.describe_resumption(task.previous_record)}")
            self._start_process(task, lease)
        except (RecordError, OSError, EOFError) as error:  # EOFError: the fork server has just died
            if isinstance(lease, Lease):
                lease.release()
            self._settle_run(task, Outcome.failed, f"{task.label} failed: {_describe_error(error, task)}")

    def _needs_no_run(self, task: RunAttempt) -> bool:
        """Return True if a run is finished, or has failed under another command during this one."""
        path = task.job.folder / RECORD_FILE
        if self._records is None:
            self._records = {
                found: found.stat().st_mtime_ns for found in task.job.folder.parent.glob(f"*/{RECORD_FILE}")
            }
        record = load_previous_record(task.job.folder)
        if record is not None and retries.needs_no_run(task.job, record):
            elsewhere = " elsewhere" if task in self._elsewhere else ""
            remove_expired_lease(task.job.folder)
            self._settle_run(task, Outcome.skipped, f"{task.name}: skipped: {record.status_label}{elsewhere}")
        elif (
            record is not None and record.status is Status.failed and self._records.get(path) != path.stat().st_mtime_ns
        ):
            self._settle_run(
                task, Outcome.failed, f"{task.name}: failed elsewhere: {(record.error or {}).get('message')}"
            )
        else:
            return False
        return True

    def _defer_run(self, task: RunAttempt, holder: LeaseHolder) -> None:
        if task not in self._elsewhere:
            self._elsewhere.append(task)
            self._board.print_line(f"{task.name}: running elsewhere: {holder}; checked again at the end")

    def _start_process(self, task: RunAttempt, lease: Lease) -> None:
        """Start the process of a run whose lease is held."""
        if task in self._elsewhere:
            self._elsewhere.remove(task)
        task.attempt += 1
        start_fork_server(self._preload)  # at the first run: if all runs are finished, nothing is imported
        active = _ActiveRun(
            task, lease, JobProcesses(task.job, retries.build_placement_overrides(task, count_cores()), lease)
        )
        task.started_at = time.monotonic()  # the first run has waited for the fork server
        with block_signals():
            self._active = (*self._active, active)
            if self._watch.stop_signal is not None:  # a signal during the start
                active.processes.send_signal(self._watch.stop_signal)

    def _wait_for_event(self) -> None:
        """Wait until a process prints or ends, a signal comes, or the poll interval is over."""
        self._prepare_next()
        children = [active.processes for active in self._active]
        outputs = [child.output for child in children if not child.silent]
        wait(
            [self._watch.awake, *(s for child in children for s in child.sentinels), *outputs], self._get_poll_seconds()
        )
        self._watch.clear_wakeup()
        for active in self._active:
            self._print_output(active.processes, active.task)
            if active.processes.is_over():
                self._handle_end(active)

    def _get_poll_seconds(self) -> float | None:
        """Return the seconds after which to check even if nothing happens."""
        looks = [active.processes.poll_seconds for active in self._active if active.processes.poll_seconds is not None]
        if self._board.live or (self._elsewhere and not self._more and len(self._active) < self._workers):
            looks.append(_POLL_SECONDS)
        return min(looks, default=None)

    def _print_output(self, child: JobProcesses, task: RunAttempt, last: bool = False) -> None:
        labelled = self._workers > 1 or self._board.live
        for line in child.read_lines(last):
            self._board.print_line(f"{task.label} {line}" if labelled else line)

    def _handle_end(self, active: _ActiveRun) -> None:
        """Handle the end of a process: retry the run or settle it."""
        task, lease = active.task, active.lease
        self._print_output(active.processes, task, last=True)
        ended = active.processes.collect_exit()
        with block_signals():
            self._active = tuple(other for other in self._active if other is not active)
        if not lease.renew():
            self._elsewhere.append(task)
            self._board.print_line(f"{task.label} taken over by another command: this one did not renew its lease")
            return
        try:
            remove_temporary_files(task.job.folder)
            record = retries.complete_record(task, ended, self._watch.stop_signal)
            took = f"after {format_duration(task.seconds)}"
            once_more = retries.decide_retry(task, record)
            if once_more is None or self._watch.stop_signal is not None:
                self._report_result(task, record, took, active.processes.tail)
            else:
                why_again = (record.error or {}).get("message")
                self._board.print_line(f"{task.label} {record.status.value} {took}: {why_again}; {once_more.message}")
                task.previous_record, task.micro_batch_size = record, once_more.micro_batch_size
                self._start_process(task, lease)
                return
        except (RecordError, OSError, EOFError) as error:
            self._settle_run(task, Outcome.failed, f"{task.label} failed: {_describe_error(error, task)}")
        lease.release()

    def _report_result(self, task: RunAttempt, record: Record, took: str, tail: Sequence[str]) -> None:
        """Report the result of a run."""
        if record.status is Status.finished:
            self._counts.seconds.append(task.seconds)
            self._settle_run(task, Outcome.finished, f"{task.label} finished in {took.removeprefix('after ')}")
            return
        error = record.error or {"type": "", "message": ""}
        if self._watch.stop_signal is not None:
            self._interrupted.append(task)
        line, outcome = retries.describe_failure(task, record, took), get_outcome(record)
        self._settle_run(task, outcome, line, extract_error_lines(error, tail) if outcome is Outcome.failed else [])

    def _settle_run(self, task: RunAttempt, outcome: Outcome, line: str, more: Sequence[str] = ()) -> None:
        """Store the outcome of a run and print its line."""
        if task in self._elsewhere:
            self._elsewhere.remove(task)
        self._counts.outcomes[task.number] = outcome
        for text in (line, *more):
            self._board.print_line(text)

    def _update_table(self) -> None:
        if self._board.live:
            rows = [RunningRun(a.task.label, a.task.job.title, a.task.job.folder, a.task.seconds) for a in self._active]
            self._board.update(self._counts.format_totals([row.seconds for row in rows], self._workers), rows)

    def _stop_sweep(self, number: int) -> NoReturn:
        cut = [(task.number, str(task.job.folder)) for task in self._interrupted]
        where = retries.describe_interruption(cut, self._last, self._counts.total)
        self._board.print_line(
            f"stopped by {signal.Signals(number).name} {where}; the same command continues from there"
        )
        interrupts.raise_interrupted(number, is_reported=True)

    def _forward_signal(self, number: int) -> None:
        for active in self._active:
            active.processes.send_signal(number)


def get_outcome(record: Record) -> Outcome:
    """Return the outcome that a record stands for."""
    return Outcome.pruned if record.status_label == FailureReason.pruned else Outcome(record.status.value)


def _describe_error(error: Exception, task: RunAttempt) -> str:
    return build_exception_error(error, task.job.folder)["message"]
