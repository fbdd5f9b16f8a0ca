"""What is done about a run that has ended: its record completed, and whether and how it is tried again."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.config.tracking import OnOutOfMemory
from attnbench.records.lifecycle import (
    build_exit_error,
    build_hang_error,
    build_signal_error,
    create_record,
    load_previous_record,
    write_final_status,
)
from attnbench.records.record import FailureReason, Record, Status
from attnbench.sweeps.processes import Ended, Job

_MEMORY = {FailureReason.memory, FailureReason.perhaps_memory}
# What may be otherwise the next time. Not a config or data that is refused, a loss that diverges, a full disk.
_WORTH_RETRYING = {FailureReason.killed, FailureReason.perhaps_memory, FailureReason.hung, FailureReason.raised}
_MICRO_BATCH = "trainer.micro_batch_size"


@dataclass(frozen=True)
class Again:
    """How a run is tried once more."""

    micro_batch: int | None
    said: str


@dataclass(eq=False)
class Task:
    """A job on its way."""

    number: int
    label: str
    job: Job
    attempt: int = 0  # in this command
    micro_batch: int | None = None  # what memory has shown to be too much for, halved
    before: Record | None = None  # as it was before this attempt
    since: float = 0.0  # by time.monotonic

    @property
    def seconds(self) -> float:
        """How long this attempt has taken."""
        return time.monotonic() - self.since

    @property
    def name(self) -> str:
        """What tells it from the others, in a line."""
        return f"{self.label} {self.job.folder.name} {self.job.title}".rstrip()


def record_of(task: Task, ended: Ended, stopped: int | None) -> Record:
    """The record of a task whose process has ended, completed where the process could not do so.

    `stopped` is the signal by which the whole sweep was asked to stop.

    Raises:
        RecordError: what lies there cannot be read.
        OSError: the record cannot be written.
    """
    job, before = task.job, task.before
    record = load_previous_record(job.folder)
    own = ended.rank == 0 or record is None or record.status is not Status.failed  # not drawn along by another rank
    if record is not None and record != before and record.status is not Status.running and own:
        return record
    if record is None or record == before:
        record = create_record(job.config, job.overrides, before)
    if ended.hung:
        minutes = job.config.sweep.hang_timeout_minutes
        assert minutes is not None
        write_final_status(record, job.folder, Status.failed, build_hang_error(minutes))
    elif stopped is not None:
        write_final_status(record, job.folder, Status.interrupted, build_signal_error(stopped))
    else:
        error = ended.said or build_exit_error(ended.exitcode, is_out_of_memory=ended.short)
        if ended.rank:
            error |= {"message": f"rank {ended.rank}: {error['message']}"}
        is_interrupted = error["kind"] == FailureReason.interrupted
        write_final_status(record, job.folder, Status.interrupted if is_interrupted else Status.failed, error)
    return record


def is_over(job: Job, record: Record) -> bool:
    """Whether a run needs no more doing; one that a search has ended early is gone on with outside of searches."""
    return record.status is Status.finished or (
        record.status_label == FailureReason.pruned and job.config.sweep.trial is not None
    )


def once_more(task: Task, record: Record) -> Again | None:
    """Whether, and how, a task whose last attempt left `record` is tried again in the same command."""
    if record.status is not Status.failed:
        return None
    config, kind = task.job.config, (record.error or {}).get("kind", FailureReason.raised)
    trainer, chosen = config.trainer, config.sweep
    if kind in _MEMORY and chosen.on_oom is OnOutOfMemory.halve_batch:
        whole = math.ceil(config.data.max_update_size / (trainer.devices * trainer.num_nodes))
        current = task.micro_batch or trainer.micro_batch_size or whole
        if current == 1:
            return None
        half = (min(current, whole) + 1) // 2
        return Again(half, f"again with {_MICRO_BATCH}={half}")
    if kind in _WORTH_RETRYING and task.attempt <= chosen.retries:
        return Again(task.micro_batch, f"again, attempt {task.attempt + 1} of {chosen.retries + 1}")
    return None


def halved_before(job: Job, before: Record | None) -> int | None:
    """The micro batch that an unfinished attempt of an earlier command had come down to, if it had."""
    if before is None or job.config.sweep.on_oom is not OnOutOfMemory.halve_batch:
        return None
    ours = [item for item in before.overrides if item not in job.overrides]
    found = [item.partition("=")[2] for item in ours if item.startswith(f"{_MICRO_BATCH}=")]
    return int(found[-1]) if found else None


def added(task: Task, cores: int) -> list[str]:
    """The overrides that a run gets beside its own: its share of the cores, a micro batch that fits."""
    found = []
    trainer = task.job.config.trainer
    processes = task.job.config.sweep.workers * trainer.devices
    if processes > 1 and trainer.num_threads is None and "OMP_NUM_THREADS" not in os.environ:  # a person's choice stays
        found.append(f"trainer.num_threads={max(1, cores // processes)}")
    if task.micro_batch is not None:
        found.append(f"{_MICRO_BATCH}={task.micro_batch}")
    return found


def again(before: Record | None) -> str:
    """What a line says of a run that was begun before."""
    if before is None:
        return ""
    if before.status is Status.running:
        return ": goes on; its last attempt ended without a word"
    if before.status is Status.interrupted:
        return ": goes on"
    return f": again; it {_past(before)}"


def _past(record: Record) -> str:
    message = (record.error or {}).get("message", "")
    return f"failed: {message.splitlines()[0] if message else record.status_label}"


def said_of(task: Task, record: Record, took: str) -> str:
    """The line about a run that has ended without a result."""
    error = record.error or {"type": "", "message": ""}
    said = f"{record.status.value} {took}: {error['type']}"
    if record.status_label == FailureReason.pruned:
        said = f"pruned {took}"
    return f"{task.label} {said}: {error['message']} ({task.job.folder})"


def stopped_where(cut: Sequence[tuple[int, str]], started: int, total: int) -> str:
    """Where a signal met the sweep; `cut`: number and folder of each run that it ended."""
    if not cut:
        return f"before run {started + 1} of {total}" if started < total else "at the end"
    if len(cut) == 1:
        return f"in run {cut[0][0]} of {total} ({cut[0][1]})"
    return f"in runs {', '.join(str(number) for number, _ in cut)} of {total}"
