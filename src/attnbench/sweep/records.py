"""The record of a run that has not ended well, or not yet begun: what is known of it without torch."""

from __future__ import annotations

import datetime
import signal
from pathlib import Path

from attnbench.config import Config
from attnbench.identity import provenance, resolved, run_id
from attnbench.record import RECORD, SCHEMA_VERSION, Record, Status, read, write

_WAY_ON: dict[int, str] = {
    # Seen with bf16 on virtual machines that pass on the CPU's AMX flags and not its AMX.
    signal.SIGILL: ": the CPU does not carry out an instruction it announces; "
    "ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment does without AMX",
}


def now() -> str:
    """The time as a record holds it: ISO 8601, UTC, whole seconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def new_record(config: Config, overrides: list[str]) -> Record:
    """A record of a run that has begun and knows nothing yet."""
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=run_id(config),
        name=config.name,
        sweep=config.sweep.name,
        status=Status.running,
        config=resolved(config),
        overrides=overrides,
        seed=config.seed,
        provenance=provenance({}),
        parameters={},
        metrics={"final": {}, "best": {}, "test": {}},
        performance={},
        notes=[],
        tracker=None,
        error=None,
        time={"started": now(), "ended": None, "train_seconds": 0.0},
    )


def last_record(folder: Path) -> Record | None:
    """The record that lies in a run's folder, if one does.

    Raises:
        RecordError: it cannot be read, and so must not be written over.
    """
    path = folder / RECORD
    return read(path) if path.exists() else None


def is_finished(folder: Path) -> bool:
    """Whether the run of this folder needs no more doing; raises as `last_record` does."""
    record = last_record(folder)
    return record is not None and record.status is Status.finished


def close(record: Record, folder: Path, status: Status, error: dict[str, str]) -> None:
    """Write how a run ended that could not write so itself."""
    record.status, record.error = status, error
    record.time["ended"] = now()
    write(record, folder)


def stop(number: int) -> dict[str, str]:
    """The error of a process that was asked to stop by signal `number`, and said nothing itself."""
    return {"type": "Interrupted", "message": f"stopped by {signal.Signals(number).name}", "traceback": ""}


def death(exitcode: int) -> dict[str, str]:
    """The error of a process that ended without a word; `exitcode` as multiprocessing has it."""
    if exitcode >= 0:
        return {"type": "Exited", "message": f"exited with status {exitcode}", "traceback": ""}
    name, way_on = signal.strsignal(-exitcode), _WAY_ON.get(-exitcode, "")
    return {"type": "Killed", "message": f"killed by signal {-exitcode} ({name}){way_on}", "traceback": ""}
