"""The record of a run that has not ended well, or not yet begun: what is known of it without torch."""

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
from attnbench.process.interrupts import SIGNALS, Interrupted, reason_of
from attnbench.records.identity import provenance, resolved, run_id
from attnbench.records.record import PROGRESS, RECORD, SCHEMA_VERSION, Kind, Record, RecordError, Status, read, write

_WAY_ON: dict[int, str] = {
    # Seen with bf16 on virtual machines that pass on the CPU's AMX flags and not its AMX.
    signal.SIGILL: ": the CPU does not carry out an instruction it announces; "
    "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment does without AMX",
}
# Exceptions by the name of their class, or of one it comes from: what raises them needs torch.
_KINDS = {
    "TrainingError": Kind.diverged,
    "FloatingPointError": Kind.diverged,
    "OutOfMemoryError": Kind.memory,  # torch's, of every accelerator
    "MemoryError": Kind.memory,
    "ConfigError": Kind.refused,
    "DataError": Kind.refused,
    "RecordError": Kind.refused,
    "Pruned": Kind.pruned,
    "Interrupted": Kind.interrupted,
    "SystemExit": Kind.interrupted,
}
_SAID = (  # and what a RuntimeError says that should have been one of those
    (re.compile("can't allocate memory|out of memory|_ALLOC_FAILED"), Kind.memory),
    (re.compile("returned nan values"), Kind.diverged),  # debug.detect_anomaly
)
_ERRNO = {
    errno.ENOSPC: Kind.disk_full,
    errno.EDQUOT: Kind.disk_full,
    errno.EFBIG: Kind.disk_full,
    errno.EROFS: Kind.not_writable,
    errno.EACCES: Kind.not_writable,
    errno.EPERM: Kind.not_writable,
    errno.ENOMEM: Kind.memory,
}
_FILES_WAY_ON = {
    Kind.disk_full: "make room there, and the same command goes on",
    Kind.not_writable: "see to its permissions, or name another folder with paths.output, paths.cache or paths.data",
}
_ERRNO_WAY_ON = {
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and the same command goes on",
    errno.EDQUOT: "make room in your quota, and the same command goes on",
}
# What a rank says whose only fault is that another one is gone.
_OF_ANOTHER_RANK = re.compile("closed by peer|reset by peer|Broken pipe|NCCL|another rank|rank 0 ended")
_MEMORY_WAY_ON = "; with -m, sweep.on_oom=halve_batch goes on in smaller parts of an update"


def now() -> str:
    """The time as a record holds it: ISO 8601, UTC, whole seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def new_record(config: Config, overrides: list[str], before: Record | None = None) -> Record:
    """Return a record of a run that has begun and knows nothing yet; `before`: of its last attempt."""
    record = Record(
        schema_version=SCHEMA_VERSION,
        run_id=run_id(config),
        name=config.name,
        sweep=config.sweep.name,
        status=Status.running,
        config=resolved(config),
        overrides=overrides,
        seed=config.seed,
        provenance={},
        parameters={},
        metrics={"final": {}, "best": {}, "test": {}},
        performance={},
        notes=[],
        tracker=None,
        error=None,
        time={"started": now(), "ended": None, "train_seconds": 0.0},
        attempts=1 if before is None else before.attempts + 1,
        sessions=[] if before is None else before.all_sessions,
    )
    record.set_provenance(provenance({}))
    return record


def last_record(folder: Path) -> Record | None:
    """The record that lies in a run's folder, if one does.

    Raises:
        RecordError: it cannot be read, and so must not be written over.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        return read(path)
    except RecordError as error:
        way_on = f"move {RECORD} away, and the same command goes on from the last checkpoint there"
        raise RecordError(f"{error}; {way_on}") from error


def prepare_folder(folder: Path) -> None:
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


def folder_fault(error: OSError, folder: Path) -> str:
    """Return the sentence about a folder that records cannot be written to."""
    found = error_of(error, folder)
    if found["kind"] != Kind.raised:
        return found["message"]
    reason = (error.strerror or "cannot be made").lower()
    return f"{error.filename or folder}: {reason}; name another folder with paths.output or sweep.name"


def is_finished(folder: Path) -> bool:
    """Whether the run of this folder needs no more doing; raises as `last_record` does."""
    record = last_record(folder)
    return record is not None and record.status is Status.finished


def close(record: Record, folder: Path, status: Status, error: dict[str, str]) -> None:
    """Write how a run ended that could not write so itself."""
    record.status, record.error = status, error
    record.time["ended"] = now()
    write(record, folder)


def tidy(folder: Path) -> None:
    """Take away what a run that was killed left half-written; only for who has the folder's lease."""
    for draft in (*folder.glob(".*.tmp"), *folder.glob("checkpoints/.*.tmp"), folder / PROGRESS):
        with contextlib.suppress(OSError):
            draft.unlink()


def stop(number: int) -> dict[str, str]:
    """The error of a process that was asked to stop by signal `number`, and said nothing itself."""
    return _error(Kind.interrupted, "Interrupted", f"stopped by {signal.Signals(number).name}")


def hung(minutes: float) -> dict[str, str]:
    """The error of a process that was killed since it went nowhere."""
    return _error(Kind.hung, "Hung", f"no progress for {minutes:g} minutes (sweep.hung_minutes)")


def death(exitcode: int, *, short: bool = False) -> dict[str, str]:
    """Return the error of a process that ended and left none.

    Args:
        exitcode: as multiprocessing has it.
        short: whether the kernel killed some process for want of memory meanwhile.
    """
    if exitcode - 128 in SIGNALS:  # it was stopped before it had a record
        return stop(exitcode - 128)
    if exitcode >= 0:
        return _error(Kind.killed, "Exited", f"exited with status {exitcode}")
    name, way_on = signal.strsignal(-exitcode), _WAY_ON.get(-exitcode, "")
    kind = Kind.killed
    if short and -exitcode == signal.SIGKILL:
        kind, way_on = Kind.perhaps_memory, f", as the kernel did when memory ran short{_MEMORY_WAY_ON}"
    return _error(kind, "Killed", f"killed by signal {-exitcode} ({name}){way_on}")


def error_of(error: BaseException, folder: Path | None = None) -> dict[str, str]:
    """Return what a record says of the exception that ended a run in `folder`."""
    error = reason_of(error)
    kind, cause = _kind_of(error)
    message = str(error) or type(error).__name__
    if isinstance(error, SystemExit) and not isinstance(error, Interrupted):
        message = f"a library has ended the process, with status {error.code}"
    if isinstance(cause, OSError) and kind in _FILES_WAY_ON:
        where = cause.filename or folder or "a folder"
        way_on = _ERRNO_WAY_ON.get(cause.errno or 0, _FILES_WAY_ON[kind])
        message = f"{where}: {(cause.strerror or 'cannot be written').lower()}; {way_on}"
    elif kind is Kind.memory:
        message = f"out of memory: {message.strip().splitlines()[0]}{_MEMORY_WAY_ON}"
    quiet = kind in (Kind.interrupted, Kind.pruned)
    return _error(kind, type(error).__name__, message, "" if quiet else "".join(traceback.format_exception(error)))


def of_another_rank(error: dict[str, str] | None) -> bool:
    """Whether this error, of one rank of several, only follows from the end of another rank."""
    return error is not None and bool(_OF_ANOTHER_RANK.search(error["message"]))


def kernel_kills() -> int:
    """How many processes the kernel has killed for want of memory, here or in this control group; 0 if unknown."""
    found = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        with contextlib.suppress(OSError):
            counted = re.search(r"^oom_kill (\d+)", Path(path).read_text(encoding="ascii"), re.MULTILINE)
            found += int(counted[1]) if counted else 0
    return found


def _kind_of(error: BaseException) -> tuple[Kind, BaseException]:
    """Why a run ended, and the exception, `error` or what it came of, that tells."""
    for base in type(error).__mro__:
        if base.__name__ in _KINDS:
            return _KINDS[base.__name__], error
    if isinstance(error, RuntimeError):
        for pattern, kind in _SAID:
            if pattern.search(str(error)):
                return kind, error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _ERRNO:
            return _ERRNO[cause.errno], cause
        cause = cause.__cause__ or cause.__context__
    return Kind.raised, error


def _error(kind: Kind, name: str, message: str, text: str = "") -> dict[str, str]:
    return {"kind": kind.value, "type": name, "message": message, "traceback": text}
