"""Records over the lifecycle of a run: start, error, end. Without torch."""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import re
import signal
import traceback
from pathlib import Path

from attnbench.config import Config
from attnbench.process.interrupts import SIGNALS, Interrupted, find_interruption
from attnbench.records.identity import collect_provenance, compute_run_id, config_to_dict
from attnbench.records.record import (
    PROGRESS_FILE,
    RECORD_FILE,
    SCHEMA_VERSION,
    FailureReason,
    Record,
    RecordError,
    Status,
    read_record,
    write_record,
)

_SIGNAL_ADVICE: dict[int, str] = {
    # Seen with bf16 on virtual machines that report AMX without supporting it.
    signal.SIGILL: ": the CPU does not carry out an instruction it announces; "
    "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment does without AMX",
}
# By class name, or the name of a base class, because the classes need torch.
_REASON_BY_EXCEPTION = {
    "TrainingError": FailureReason.diverged,
    "FloatingPointError": FailureReason.diverged,
    "OutOfMemoryError": FailureReason.memory,  # torch's, of every accelerator
    "MemoryError": FailureReason.memory,
    "ConfigError": FailureReason.refused,
    "DataError": FailureReason.refused,
    "RecordError": FailureReason.refused,
    "Pruned": FailureReason.pruned,
    "Interrupted": FailureReason.interrupted,
    "SystemExit": FailureReason.interrupted,
}
_REASON_BY_MESSAGE = (  # RuntimeErrors by their message
    (re.compile("can't allocate memory|out of memory|_ALLOC_FAILED"), FailureReason.memory),
    (re.compile("returned nan values"), FailureReason.diverged),  # debug.detect_anomaly
)
_REASON_BY_ERRNO = {
    errno.ENOSPC: FailureReason.disk_full,
    errno.EDQUOT: FailureReason.disk_full,
    errno.EFBIG: FailureReason.disk_full,
    errno.EROFS: FailureReason.not_writable,
    errno.EACCES: FailureReason.not_writable,
    errno.EPERM: FailureReason.not_writable,
    errno.ENOMEM: FailureReason.memory,
}
_FILE_ADVICE = {
    FailureReason.disk_full: "free some space there, and the same command continues",
    FailureReason.not_writable: "change its permissions, or set paths.output, paths.cache or paths.data",
}
_ERRNO_ADVICE = {
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and the same command continues",
    errno.EDQUOT: "free some space in your quota, and the same command continues",
}
# Errors of a rank that only follow from the end of another rank.
_OTHER_RANK_PATTERN = re.compile("closed by peer|reset by peer|Broken pipe|NCCL|another rank|rank 0 ended")
_MEMORY_ADVICE = "; with -m, sweep.on_oom=halve_batch retries with smaller micro-batches"


def format_current_time() -> str:
    """Return the current time in ISO 8601, UTC, whole seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def create_record(config: Config, overrides: list[str], previous: Record | None = None) -> Record:
    """Return a record of a run that has begun and knows nothing yet; `before`: of its last attempt."""
    record = Record(
        schema_version=SCHEMA_VERSION,
        run_id=compute_run_id(config),
        name=config.name,
        sweep=config.sweep.name,
        status=Status.running,
        config=config_to_dict(config),
        overrides=overrides,
        seed=config.seed,
        provenance={},
        parameters={},
        metrics={"final": {}, "best": {}, "test": {}},
        performance={},
        notes=[],
        tracker=None,
        error=None,
        time={"started": format_current_time(), "ended": None, "train_seconds": 0.0},
        attempts=1 if previous is None else previous.attempts + 1,
        sessions=[] if previous is None else previous.all_sessions,
    )
    record.set_provenance(collect_provenance({}))
    return record


def load_previous_record(folder: Path) -> Record | None:
    """Load the record in a run's folder; None if there is none.

    Raises:
        RecordError: the record cannot be read, and must not be overwritten.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return None
    try:
        return read_record(path)
    except RecordError as error:
        way_on = f"move {RECORD_FILE} away, and the same command continues from the last checkpoint there"
        raise RecordError(f"{error}; {way_on}") from error


def create_run_folder(folder: Path) -> None:
    """Make a run's folder, and see that it can be written to.

    Raises:
        OSError: it cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe.{os.getpid()}.tmp"
    try:
        probe.write_bytes(b"0")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def describe_folder_error(error: OSError, folder: Path) -> str:
    """Return the sentence about a folder that records cannot be written to."""
    found = build_exception_error(error, folder)
    if found["kind"] != FailureReason.raised:
        return found["message"]
    reason = (error.strerror or "cannot be made").lower()
    return f"{error.filename or folder}: {reason}; name another folder with paths.output or sweep.name"


def is_finished(folder: Path) -> bool:
    """Return True if the run in this folder is finished.

    Raises:
        RecordError: see `load_previous_record`.
    """
    record = load_previous_record(folder)
    return record is not None and record.status is Status.finished


def write_final_status(record: Record, folder: Path, status: Status, error: dict[str, str]) -> None:
    """Write how a run ended that could not write so itself.

    Args:
        record: record of the run.
        folder: folder of the run.
        status: final status.
        error: kind, type, message and traceback.
    """
    record.status, record.error = status, error
    record.time["ended"] = format_current_time()
    write_record(record, folder)


def remove_temporary_files(folder: Path) -> None:
    """Take away what a run that was killed left half-written; only for who has the folder's lease."""
    for draft in (*folder.glob(".*.tmp"), *folder.glob("checkpoints/.*.tmp"), folder / PROGRESS_FILE):
        with contextlib.suppress(OSError):
            draft.unlink()


def build_signal_error(signal_number: int) -> dict[str, str]:
    """Build the error of a process that was stopped by a signal and wrote no record itself."""
    return _build_error(FailureReason.interrupted, "Interrupted", f"stopped by {signal.Signals(signal_number).name}")


def build_hang_error(minutes: float) -> dict[str, str]:
    """Build the error of a process that was killed because it made no progress."""
    return _build_error(FailureReason.hung, "Hung", f"no progress for {minutes:g} minutes (sweep.hang_timeout_minutes)")


def build_exit_error(exitcode: int, *, is_out_of_memory: bool = False) -> dict[str, str]:
    """Return the error of a process that ended and left none.

    Args:
        exitcode: as multiprocessing has it.
        is_out_of_memory: True if the kernel killed a process because memory ran out.
    """
    if exitcode - 128 in SIGNALS:  # the run was stopped before it had a record
        return build_signal_error(exitcode - 128)
    if exitcode >= 0:
        return _build_error(FailureReason.killed, "Exited", f"exited with status {exitcode}")
    name, way_on = signal.strsignal(-exitcode), _SIGNAL_ADVICE.get(-exitcode, "")
    kind = FailureReason.killed
    if is_out_of_memory and -exitcode == signal.SIGKILL:
        kind, way_on = FailureReason.perhaps_memory, f", as the kernel did when memory ran short{_MEMORY_ADVICE}"
    return _build_error(kind, "Killed", f"killed by signal {-exitcode} ({name}){way_on}")


def build_exception_error(error: BaseException, folder: Path | None = None) -> dict[str, str]:
    """Return what a record says of the exception that ended a run in `folder`.

    Args:
        error: the exception.
        folder: folder of the run.
    """
    error = find_interruption(error)
    kind, cause = _find_reason(error)
    message = str(error) or type(error).__name__
    if isinstance(error, SystemExit) and not isinstance(error, Interrupted):
        message = f"a library has ended the process, with status {error.code}"
    if isinstance(cause, OSError) and kind in _FILE_ADVICE:
        where = cause.filename or folder or "a folder"
        way_on = _ERRNO_ADVICE.get(cause.errno or 0, _FILE_ADVICE[kind])
        message = f"{where}: {(cause.strerror or 'cannot be written').lower()}; {way_on}"
    elif kind is FailureReason.memory:
        message = f"out of memory: {message.strip().splitlines()[0]}{_MEMORY_ADVICE}"
    quiet = kind in (FailureReason.interrupted, FailureReason.pruned)
    return _build_error(
        kind, type(error).__name__, message, "" if quiet else "".join(traceback.format_exception(error))
    )


def is_caused_by_other_rank(error: dict[str, str] | None) -> bool:
    """Return True if an error of one rank only follows from the end of another rank."""
    return error is not None and bool(_OTHER_RANK_PATTERN.search(error["message"]))


def count_oom_kills() -> int:
    """Return the number of processes that the kernel has killed for lack of memory; 0 if unknown.

    The count covers this machine, or this control group.
    """
    found = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError):
            counted = re.search(r"^oom_kill (\d+)", Path(path).read_text(encoding="ascii"), re.MULTILINE)
            found += int(counted[1]) if counted else 0
    return found


def _find_reason(error: BaseException) -> tuple[FailureReason, BaseException]:
    """Find why a run ended, and the exception (`error` or one of its causes) that shows it."""
    for base in type(error).__mro__:
        if base.__name__ in _REASON_BY_EXCEPTION:
            return _REASON_BY_EXCEPTION[base.__name__], error
    if isinstance(error, RuntimeError):
        for pattern, kind in _REASON_BY_MESSAGE:
            if pattern.search(str(error)):
                return kind, error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _REASON_BY_ERRNO:
            return _REASON_BY_ERRNO[cause.errno], cause
        cause = cause.__cause__ or cause.__context__
    return FailureReason.raised, error


def _build_error(kind: FailureReason, name: str, message: str, text: str = "") -> dict[str, str]:
    return {"kind": kind.value, "type": name, "message": message, "traceback": text}
