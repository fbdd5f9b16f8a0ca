"""Runs the jobs of a sweep, several at once, each in a process that cannot take the others with it.

Where jobs are handed elsewhere (a queue, another machine), what runs there is `supervise` of one job: lease, retries
and records are then the same as here.
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
from attnbench.sweeps.display import Board, Counts, Outcome, Running, lasted, why
from attnbench.sweeps.lease import Holder, Lease, remove_void, take
from attnbench.sweeps.processes import Child, Job, serve
from attnbench.sweeps.retries import Task
from attnbench.sweeps.stop_signals import Watch, blocked

_LOOK = 1.0  # seconds between looks at what goes on elsewhere, and between two drawings of the table


def supervise(
    jobs: Iterable[Job],
    total: int,
    *,
    preload: Sequence[str] = (),
    first: int = 1,
    tell: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Run what is not finished, and say what became of each job; a failure does not stop the others.

    What is costly to import is imported once, into a fork server from which every job's process starts. How many run
    at once and what is done about failures stands in `sweep` of each job's config. A run that another command has the
    lease of is left for the end, and waited for.

    Args:
        jobs: taken one by one, as they are started.
        total: how many there are, for "job k of n".
        preload: modules that every job needs; they must start no thread when imported.
        first: the number of the first job.
        tell: prints a line; None: print it, on a terminal above a live table.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP was passed on to the running jobs, which have ended; a SystemExit with
            status 128 + signal.
    """
    protect_output()
    tasks = (Task(number, f"[{number}/{total}]", job) for number, job in enumerate(jobs, first))
    with _Supervisor(tasks, total, Board(tell), preload) as supervisor:
        return supervisor.run()


@dataclass(frozen=True)
class _Active:
    """A task with the process that it has now."""

    task: Task
    lease: Lease
    child: Child


class _Supervisor:
    """The children, an event loop over them, and the signals: each child gets each once, from here alone."""

    def __init__(self, tasks: Iterator[Task], total: int, board: Board, preload: Sequence[str]) -> None:
        self._tasks, self._more = tasks, True
        self._preload = preload
        self._next: Task | None = None
        self._board, self._counts = board, Counts(total)
        self._watch = Watch(self._ask)
        self._active: tuple[_Active, ...] = ()  # replaced, never changed: a signal may come at any time
        self._elsewhere: list[Task] = []
        self._known: dict[Path, str] = {}  # folders, by who has them here
        self._records: dict[Path, int] | None = None  # when each was last written, as this command began
        self._workers = 1
        self._last = 0  # number of the last task taken
        self._cut: list[Task] = []  # what a signal has ended

    def __enter__(self) -> _Supervisor:
        self._watch.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        for active in self._active:  # something went wrong here: nobody would look after them
            active.child.kill()
        self._board.draw()
        self._watch.__exit__(*exception)

    def run(self) -> list[Outcome]:
        """Every job, until none is left or a signal says so."""
        self._fill()
        while self._active or (self._elsewhere and self._watch.stopped is None):
            self._wait()
            self._fill()
        if self._watch.stopped is not None:
            self._leave(self._watch.stopped)
        return self._counts.in_order()

    def _fill(self) -> None:
        """Start what there is room for; what runs elsewhere is looked at again when nothing else is left."""
        while self._watch.stopped is None and self._more and len(self._active) < self._workers:
            self._look_ahead()
            task, self._next = self._next, None
            if task is None:
                break
            self._last = task.number
            self._workers = task.job.config.sweep.workers
            if task.job.folder in self._known:
                same = self._known[task.job.folder]
                self._settle(task, Outcome.skipped, f"{task.label} {task.job.title}: the same run as {same}")
                continue
            self._known[task.job.folder] = task.label
            self._begin(task)
        if not self._more:
            for task in tuple(self._elsewhere):
                if self._watch.stopped is None and len(self._active) < self._workers:
                    self._begin(task)
        self._draw()

    def _look_ahead(self) -> None:
        """Have the next task ready: composing its config takes a while, best spent while others run."""
        if self._next is None and self._more:
            self._next = next(self._tasks, None)
            self._more = self._next is not None

    def _begin(self, task: Task) -> None:
        """Start a task, unless it is finished or somebody else has it."""
        folder, lease = task.job.folder, None
        try:
            if self._is_over(task):
                return
            lease = take(folder, task.job.config.sweep.lease_seconds)
            if isinstance(lease, Holder):
                self._defer(task, lease)
                return
            if self._is_over(task):  # since: by whoever had the lease
                lease.release()
                return
            remove_temporary_files(folder)
            task.before = load_previous_record(folder)
            task.micro_batch = retries.halved_before(task.job, task.before)
            self._board.line(f"{task.name}{retries.again(task.before)}")
            self._launch(task, lease)
        except (RecordError, OSError, EOFError) as error:  # EOFError: the fork server has just died
            if isinstance(lease, Lease):
                lease.release()
            self._settle(task, Outcome.failed, f"{task.label} failed: {_said(error, task)}")

    def _is_over(self, task: Task) -> bool:
        """Whether there is nothing to do, since it is finished, or failed under another command during this one."""
        path = task.job.folder / RECORD_FILE
        if self._records is None:
            self._records = {
                found: found.stat().st_mtime_ns for found in task.job.folder.parent.glob(f"*/{RECORD_FILE}")
            }
        record = load_previous_record(task.job.folder)
        if record is not None and retries.is_over(task.job, record):
            elsewhere = " elsewhere" if task in self._elsewhere else ""
            remove_void(task.job.folder)
            self._settle(task, Outcome.skipped, f"{task.name}: skipped: {record.status_label}{elsewhere}")
        elif (
            record is not None and record.status is Status.failed and self._records.get(path) != path.stat().st_mtime_ns
        ):
            self._settle(task, Outcome.failed, f"{task.name}: failed elsewhere: {(record.error or {}).get('message')}")
        else:
            return False
        return True

    def _defer(self, task: Task, holder: Holder) -> None:
        if task not in self._elsewhere:
            self._elsewhere.append(task)
            self._board.line(f"{task.name}: running elsewhere: {holder}; left for the end")

    def _launch(self, task: Task, lease: Lease) -> None:
        """Start a task's process; its lease is ours."""
        if task in self._elsewhere:
            self._elsewhere.remove(task)
        task.attempt += 1
        serve(self._preload)  # with the first run: a command that finds all runs finished imports nothing
        active = _Active(task, lease, Child(task.job, retries.added(task, count_cores()), lease))
        task.since = time.monotonic()  # the first one has waited for the fork server
        with blocked():
            self._active = (*self._active, active)
            if self._watch.stopped is not None:  # while it was being started
                active.child.ask(self._watch.stopped)

    def _wait(self) -> None:
        """Until something happens: a child prints or ends, a signal comes, it is time to look."""
        self._look_ahead()
        children = [active.child for active in self._active]
        outputs = [child.output for child in children if not child.silent]
        wait([self._watch.awake, *(s for child in children for s in child.sentinels), *outputs], self._patience())
        self._watch.calm()
        for active in self._active:
            self._pass_lines(active.child, active.task)
            if active.child.is_over():
                self._end(active)

    def _patience(self) -> float | None:
        """Seconds after which to look even if nothing happens."""
        looks = [active.child.patience for active in self._active if active.child.patience is not None]
        if self._board.live or (self._elsewhere and not self._more and len(self._active) < self._workers):
            looks.append(_LOOK)
        return min(looks, default=None)

    def _pass_lines(self, child: Child, task: Task, last: bool = False) -> None:
        labelled = self._workers > 1 or self._board.live
        for line in child.lines(last):
            self._board.line(f"{task.label} {line}" if labelled else line)

    def _end(self, active: _Active) -> None:
        """What is to be done now that a process has ended: again, or done with."""
        task, lease = active.task, active.lease
        self._pass_lines(active.child, task, last=True)
        ended = active.child.end()
        with blocked():
            self._active = tuple(other for other in self._active if other is not active)
        if not lease.renew():
            self._elsewhere.append(task)
            self._board.line(f"{task.label} taken over by another command: this one gave no sign of life")
            return
        try:
            remove_temporary_files(task.job.folder)
            record = retries.record_of(task, ended, self._watch.stopped)
            took = f"after {lasted(task.seconds)}"
            once_more = retries.once_more(task, record)
            if once_more is None or self._watch.stopped is not None:
                self._conclude(task, record, took, active.child.tail)
            else:
                why_again = (record.error or {}).get("message")
                self._board.line(f"{task.label} {record.status.value} {took}: {why_again}; {once_more.said}")
                task.before, task.micro_batch = record, once_more.micro_batch
                self._launch(task, lease)
                return
        except (RecordError, OSError, EOFError) as error:
            self._settle(task, Outcome.failed, f"{task.label} failed: {_said(error, task)}")
        lease.release()

    def _conclude(self, task: Task, record: Record, took: str, tail: Sequence[str]) -> None:
        """Say how a task ended."""
        if record.status is Status.finished:
            self._counts.seconds.append(task.seconds)
            self._settle(task, Outcome.finished, f"{task.label} finished in {took.removeprefix('after ')}")
            return
        error = record.error or {"type": "", "message": ""}
        if self._watch.stopped is not None:
            self._cut.append(task)
        line, outcome = retries.said_of(task, record, took), outcome_of(record)
        self._settle(task, outcome, line, why(error, tail) if outcome is Outcome.failed else [])

    def _settle(self, task: Task, outcome: Outcome, line: str, more: Sequence[str] = ()) -> None:
        """This is what became of a task."""
        if task in self._elsewhere:
            self._elsewhere.remove(task)
        self._counts.outcomes[task.number] = outcome
        for text in (line, *more):
            self._board.line(text)

    def _draw(self) -> None:
        if self._board.live:
            rows = [Running(a.task.label, a.task.job.title, a.task.job.folder, a.task.seconds) for a in self._active]
            self._board.draw(self._counts.line([row.seconds for row in rows], self._workers), rows)

    def _leave(self, number: int) -> NoReturn:
        cut = [(task.number, str(task.job.folder)) for task in self._cut]
        where = retries.stopped_where(cut, self._last, self._counts.total)
        self._board.line(f"stopped by {signal.Signals(number).name} {where}; the same command goes on from there")
        interrupts.raise_interrupted(number, is_reported=True)

    def _ask(self, number: int) -> None:
        for active in self._active:
            active.child.ask(number)


def outcome_of(record: Record) -> Outcome:
    """What a record says became of its run."""
    return Outcome.pruned if record.status_label == FailureReason.pruned else Outcome(record.status.value)


def _said(error: Exception, task: Task) -> str:
    return build_exception_error(error, task.job.folder)["message"]
