"""Handling of ended runs: completes the record, and decides whether and how the run is tried again."""

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
from attnbench.sweeps.processes import Job, JobExit

_MEMORY_REASONS = {FailureReason.memory, FailureReason.perhaps_memory}
# Reasons for which a retry may succeed; not for refused configs or data, divergence, or a full disk.
_RETRYABLE_REASONS = {FailureReason.killed, FailureReason.perhaps_memory, FailureReason.hung, FailureReason.raised}
_MICRO_BATCH_KEY = "trainer.micro_batch_size"


@dataclass(frozen=True)
class Retry:
    """How a run is tried again."""

    micro_batch_size: int | None
    message: str


@dataclass(eq=False)
class RunAttempt:
    """A run with the state of its current attempt."""

    number: int
    label: str
    job: Job
    attempt: int = 0  # in this command
    micro_batch_size: int | None = None  # halved after a lack of memory
    previous_record: Record | None = None  # record before this attempt
    started_at: float = 0.0  # by time.monotonic

    @property
    def seconds(self) -> float:
        """Seconds since this attempt started."""
        return time.monotonic() - self.started_at

    @property
    def name(self) -> str:
        """Label of the run in printed lines."""
        return f"{self.label} {self.job.folder.name} {self.job.title}".rstrip()


def complete_record(task: RunAttempt, job_exit: JobExit, stop_signal: int | None) -> Record:
    """Return the record of a run whose processes have ended, completed if they could not write it.

    Args:
        task: the run.
        job_exit: how its processes ended.
        stop_signal: signal that stopped the whole sweep; None if none did.

    Raises:
        RecordError: if the existing record cannot be read.
        OSError: if the record cannot be written.
    """
    job, before = task.job, task.previous_record
    record = load_previous_record(job.folder)
    own = (
        job_exit.rank == 0 or record is None or record.status is not Status.failed
    )  # the error of the rank that failed first
    if record is not None and record != before and record.status is not Status.running and own:
        return record
    if record is None or record == before:
        record = create_record(job.config, job.overrides, before)
    if job_exit.is_hung:
        minutes = job.config.sweep.hang_timeout_minutes
        assert minutes is not None
        write_final_status(record, job.folder, Status.failed, build_hang_error(minutes))
    elif stop_signal is not None:
        write_final_status(record, job.folder, Status.interrupted, build_signal_error(stop_signal))
    else:
        error = job_exit.error or build_exit_error(job_exit.exitcode, is_out_of_memory=job_exit.is_out_of_memory)
        if job_exit.rank:
            error |= {"message": f"rank {job_exit.rank}: {error['message']}"}
        is_interrupted = error["kind"] == FailureReason.interrupted
        write_final_status(record, job.folder, Status.interrupted if is_interrupted else Status.failed, error)
    return record


def needs_no_run(job: Job, record: Record) -> bool:
    """Return True if a run needs no more work; a pruned run is resumed outside of searches.

    Args:
        job: the run.
        record: its record, or None.
    """
    return record.status is Status.finished or (
        record.status_label == FailureReason.pruned and job.config.sweep.trial is not None
    )


def decide_retry(task: RunAttempt, record: Record) -> Retry | None:
    """Decide whether and how a run is tried again in the same command.

    Args:
        task: the attempt that ended.
        record: record of the run.

    Returns:
        The changes of the next attempt; None: no retry.
    """
    if record.status is not Status.failed:
        return None
    config, kind = task.job.config, (record.error or {}).get("kind", FailureReason.raised)
    trainer, chosen = config.trainer, config.sweep
    if kind in _MEMORY_REASONS and chosen.on_oom is OnOutOfMemory.halve_batch:
        whole = math.ceil(config.data.max_update_size / (trainer.devices * trainer.num_nodes))
        current = task.micro_batch_size or trainer.micro_batch_size or whole
        if current == 1:
            return None
        half = (min(current, whole) + 1) // 2
        return Retry(half, f"again with {_MICRO_BATCH_KEY}={half}")
    if kind in _RETRYABLE_REASONS and task.attempt <= chosen.retries:
        return Retry(task.micro_batch_size, f"again, attempt {task.attempt + 1} of {chosen.retries + 1}")
    return None


def find_halved_micro_batch_size(job: Job, previous_record: Record | None) -> int | None:
    """Return the micro-batch size that an unfinished attempt of an earlier command had reached by halving.

    None if it had not.
    """
    if previous_record is None or job.config.sweep.on_oom is not OnOutOfMemory.halve_batch:
        return None
    ours = [item for item in previous_record.overrides if item not in job.overrides]
    found = [item.partition("=")[2] for item in ours if item.startswith(f"{_MICRO_BATCH_KEY}=")]
    return int(found[-1]) if found else None


def build_placement_overrides(task: RunAttempt, num_cores: int) -> list[str]:
    """Build the placement overrides of a run: its part of the cores, and a micro-batch size that fits in memory.

    Args:
        task: the attempt.
        num_cores: number of cores that all parallel runs share.
    """
    found = []
    trainer = task.job.config.trainer
    processes = task.job.config.sweep.workers * trainer.devices
    if (
        processes > 1 and trainer.num_threads is None and "OMP_NUM_THREADS" not in os.environ
    ):  # the user's own choice is kept
        found.append(f"trainer.num_threads={max(1, num_cores // processes)}")
    if task.micro_batch_size is not None:
        found.append(f"{_MICRO_BATCH_KEY}={task.micro_batch_size}")
    return found


def describe_resumption(previous_record: Record | None) -> str:
    """Return the part of a line that says that a run was started before."""
    if previous_record is None:
        return ""
    if previous_record.status is Status.running:
        return ": resumes; its last attempt ended without reporting a result"
    if previous_record.status is Status.interrupted:
        return ": resumes"
    return f": again; it {_format_past_tense(previous_record)}"


def _format_past_tense(record: Record) -> str:
    message = (record.error or {}).get("message", "")
    return f"failed: {message.splitlines()[0] if message else record.status_label}"


def describe_failure(task: RunAttempt, record: Record, duration: str) -> str:
    """Return the line about a run that has ended without a result.

    Args:
        task: the attempt that ended.
        record: record of the run.
        duration: text of the duration.
    """
    error = record.error or {"type": "", "message": ""}
    text = f"{record.status.value} {duration}: {error['type']}"
    if record.status_label == FailureReason.pruned:
        text = f"pruned {duration}"
    return f"{task.label} {text}: {error['message']} ({task.job.folder})"


def describe_interruption(interrupted_runs: Sequence[tuple[int, str]], started: int, total: int) -> str:
    """Return the sentence about a sweep that a signal has stopped.

    Args:
        interrupted_runs: number and folder of each run that was stopped.
        started: number of started runs.
        total: number of all runs.
    """
    if not interrupted_runs:
        return f"before run {started + 1} of {total}" if started < total else "at the end"
    if len(interrupted_runs) == 1:
        return f"in run {interrupted_runs[0][0]} of {total} ({interrupted_runs[0][1]})"
    return f"in runs {', '.join(str(number) for number, _ in interrupted_runs)} of {total}"
