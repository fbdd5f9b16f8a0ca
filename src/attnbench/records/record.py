"""run.json and plan.json: what a run leaves and what a sweep intends; written atomically, read strictly."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

SCHEMA_VERSION = 2
_READABLE_VERSIONS = (1, 2)  # version 1 has no attempts and no kind of error
RECORD_FILE = "run.json"
PLAN_FILE = "plan.json"
PROGRESS_FILE = "progress.json"  # exists while a run trains

# JSON has no such numbers; these are the names that JavaScript's Number() reads too.
_NON_FINITE_VALUES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

T = TypeVar("T")


class RecordError(Exception):
    """A file that is not what it should be: one sentence that names it."""


class Status(Enum):
    """How far a run has come."""

    running = "running"
    finished = "finished"
    failed = "failed"
    interrupted = "interrupted"


class FailureReason(StrEnum):
    """Why a run ended without a result: `Record.error["kind"]`."""

    diverged = "diverged"  # NaN or infinite loss
    memory = "out of memory"
    perhaps_memory = "killed (out of memory?)"  # killed by the kernel for lack of memory
    killed = "killed"  # by a signal that attnbench did not send, or ended without an exception
    hung = "hung"  # no sign of progress for sweep.hang_timeout_minutes
    disk_full = "disk full"
    not_writable = "not writable"  # a folder or file system that may not be written to
    refused = "refused"  # config or data that a retry cannot repair
    interrupted = "interrupted"
    pruned = "pruned"  # pruned by a search
    raised = "raised"  # any other exception


@dataclass
class Record:
    """Record of one run (run.json); tables are made from records."""

    schema_version: int
    run_id: str
    name: str  # of the experiment
    sweep: str
    status: Status
    config: dict[str, Any]  # identity.resolved
    overrides: list[str]
    seed: int
    provenance: dict[str, Any]  # collect_provenance of the last attempt
    parameters: dict[str, int]  # total, trainable
    metrics: dict[str, dict[str, Any]]  # final: last validation; best: best validation; test
    performance: dict[str, Any]  # keys end in their units
    notes: list[str]  # notes for readers of the numbers; tables print them
    tracker: dict[str, Any] | None  # location of the tracker's copy
    error: dict[str, str] | None  # kind, type, message, traceback
    time: dict[str, Any]  # started, ended (ISO 8601, UTC), train_seconds
    attempts: int = 1  # number of starts and resumptions
    sessions: list[dict[str, Any]] = dataclasses.field(
        default_factory=list
    )  # of each attempt: attempt, started, its provenance

    def set_provenance(self, provenance: dict[str, Any]) -> None:
        """Set the provenance of this attempt; those of earlier attempts stay in `sessions`."""
        self.provenance = provenance
        earlier = [session for session in self.sessions if session["attempt"] != self.attempts]
        this = {"attempt": self.attempts, "started": self.time["started"], **provenance}
        self.sessions = [*earlier, this]

    @property
    def all_sessions(self) -> list[dict[str, Any]]:
        """`sessions`; for a record of an older version without sessions, its last attempt."""
        return self.sessions or [{"attempt": self.attempts, "started": self.time.get("started"), **self.provenance}]

    @property
    def status_label(self) -> str:
        """Status of the run; for a failed run the reason, if it is known."""
        kind = (self.error or {}).get("kind", FailureReason.raised)
        return self.status.name if self.status is not Status.failed or kind == FailureReason.raised else kind


@dataclass
class PlannedRun:
    """Planned run of a sweep."""

    run_id: str
    overrides: list[str]
    config: dict[str, Any]  # identity.resolved
    is_tuning: bool = False  # serves only to choose a candidate, and is not part of the table


@dataclass
class SkippedCombination:
    """Combination of a sweep that cannot be built."""

    overrides: list[str]
    reason: str


@dataclass
class Candidate:
    """Values that a setting of a tuned sweep was trained with."""

    values: dict[str, Any]  # by config key
    run_ids: list[str]  # of the tuning runs, one for each seed
    validation: float | None  # mean of their best validation; null: not all of them finished


@dataclass
class TunedSetting:
    """Choice of a candidate for one setting of a tuned sweep."""

    overrides: list[str]  # of the setting, without seed and candidate
    candidates: list[Candidate]
    chosen: dict[str, Any] | None  # null: no candidate finished
    edge_keys: list[str]  # keys whose chosen value is the smallest or largest candidate
    run_ids: list[str]  # of the runs with the chosen candidate


@dataclass
class Tuning:
    """Choices of a tuned sweep."""

    metric: str  # validation metric that decides
    params: dict[str, list[Any]]  # candidate values by config key, as given
    seeds: list[int]
    overrides: list[str]  # further overrides of the tuning runs
    settings: list[TunedSetting]


@dataclass
class SequentialComparison:
    """State of the comparison of one setting with the baseline, in a sweep that chooses its seeds."""

    overrides: list[str]  # of the setting, without seed and candidate
    num_seeds: int  # common seeds of the last look
    p: float | None  # corrected for looks and comparisons; null: not tested
    is_decided: bool


@dataclass
class SequentialTest:
    """Looks of a sweep that adds seeds until its comparisons are decided."""

    metric: str  # place in the record
    looks: list[int]  # planned numbers of seeds
    comparisons: list[SequentialComparison]


@dataclass
class Plan:
    """All runs of a sweep, written before the first one starts."""

    schema_version: int
    sweep: str
    command: list[str]  # overrides as typed, with unexpanded sweeps
    runs: list[PlannedRun]
    tuning: Tuning | None = None  # of a tuned sweep
    sequential: SequentialTest | None = None  # of a sweep that chooses its seeds
    skipped: list[SkippedCombination] = dataclasses.field(default_factory=list)  # with sweep.skip_invalid


def write_record(content: Record | Plan, folder: Path) -> Path:
    """Write run.json or plan.json atomically.

    Args:
        content: record or plan.
        folder: folder of the run or sweep.

    Returns:
        Path of the file.

    Raises:
        TypeError: a value has no JSON form, such as a tensor; the file stays as it was.
    """
    path = folder / (RECORD_FILE if isinstance(content, Record) else PLAN_FILE)
    text = json.dumps(_convert_to_json(dataclasses.asdict(content)), indent=1, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{path.name}.{os.getpid()}.tmp"
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_progress(folder: Path, update: int, max_updates: int | None) -> None:
    """Write the number of updates done into a run's folder.

    Args:
        folder: folder of the run.
        update: updates done.
        max_updates: number of updates of the training; None if unknown.
    """
    draft = folder / f".{PROGRESS_FILE}.{os.getpid()}.tmp"
    draft.write_text(json.dumps([update, max_updates]), encoding="utf-8")
    os.replace(draft, folder / PROGRESS_FILE)


def read_progress(folder: Path) -> tuple[int, int | None] | None:
    """Read what `write_progress` wrote; None if there is nothing to read."""
    try:
        update, of = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return (update, of) if type(update) is int and (of is None or type(of) is int) else None


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        RecordError: the file cannot be read, is not JSON, has another schema version, or has a missing, unknown or
            mistyped field.
    """
    return _read_json(Record, path)


def read_plan(path: Path, *, replace_unprintable: bool = False) -> Plan:
    """Read a plan.

    Args:
        path: the file.
        replace_unprintable: replace unprintable characters as `read_records` does.

    Raises:
        RecordError: see `read_record`.
    """
    return _read_json(Plan, path, replace_unprintable=replace_unprintable)


def read_records(
    folder: Path, find_fault: Callable[[Record], str | None] = lambda record: None
) -> tuple[list[Record], list[RecordError]]:
    """Read all records below a folder, to show them. A run's own folder is not searched further.

    A second record of the same run is reported as a problem. Surrogate and control characters in all texts become
    U+FFFD: files cannot hold the former, and terminals interpret the latter.

    Args:
        folder: folder of a sweep, of a run, or of several.
        find_fault: returns a sentence about a record that the caller cannot use, or None.

    Returns:
        Records sorted by run_id, and an error for each record that is left out.
    """
    records: dict[str, Record] = {}
    problems: list[RecordError] = []
    for parent, below, files in os.walk(folder):
        below.sort()
        if RECORD_FILE not in files:
            continue
        below.clear()
        path = Path(parent, RECORD_FILE)
        try:
            record = _read_json(Record, path, replace_unprintable=True)
            fault = find_fault(record)
            if fault is not None:
                raise RecordError(f"{path}: {fault}")
        except RecordError as error:
            problems.append(RecordError(f"{error}; left out: restore the file, or move it away and run this run again"))
            continue
        if record.run_id in records:
            problems.append(RecordError(f"{path}: left out: run {record.run_id} has another record"))
        else:
            records[record.run_id] = record
    return [records[run_id] for run_id in sorted(records)], problems


def build_dataclass(cls: type[T], content: Any, location: str) -> T:
    """Build a dataclass from the content of a JSON or YAML file.

    Args:
        cls: the dataclass.
        content: content of the file.
        location: name of the file and key, for error messages.

    Raises:
        RecordError: a field is missing, unknown or has a wrong type.
    """
    if not isinstance(content, dict):
        raise RecordError(f"{location}: expected {_format_type(cls)}, given {_format_value(content)}")
    hints = _hints(cls)
    for key in content:
        if key not in hints:
            raise RecordError(f"{location}: no such field: {key}; expected {', '.join(hints)}")
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in content:
            raise RecordError(f"{location}: the field {field.name} is missing")
    return cls(**{key: _convert_value(hints[key], value, f"{location}: {key}") for key, value in content.items()})


_hints: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)


def _convert_value(hint: Any, value: Any, location: str) -> Any:
    """Convert a value to the type of its field."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType) and len(inner) == 2 and NoneType in inner:
        return None if value is None else _convert_value(inner[inner[0] is NoneType], value, location)
    if origin in (list, dict) and type(value) is origin and inner[-1] is Any:
        return value
    if origin is list and isinstance(value, list):
        return [_convert_value(inner[0], item, f"{location}[{index}]") for index, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {key: _convert_value(inner[1], item, f"{location}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return build_dataclass(hint, value, location)  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, Enum) and value in [member.value for member in hint]:
        return hint(value)
    if hint is float and type(value) is int:
        value = float(value)
    if hint is str and isinstance(value, float):
        value = _convert_to_json(value)  # text that is the name of a number, such as an exception's message "NaN"
    if type(value) is hint:
        return value
    raise RecordError(f"{location}: expected {_format_type(hint)}, given {_format_value(value)}")


def _format_type(hint: Any) -> str:
    kind = get_origin(hint) or hint
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(member.name for member in kind)}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
    return names.get(kind, "keys with values")


def _format_value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _read_json(cls: type[T], path: Path, *, replace_unprintable: bool = False) -> T:
    try:
        text = path.read_bytes()
        content = json.loads(text, parse_constant=_reject_constant, parse_int=_parse_integer)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise RecordError(f"{path}: not valid JSON: {error}") from error
    except RecursionError as error:
        raise RecordError(f"{path}: not valid JSON: nested too deeply") from error
    if replace_unprintable and (b"\\" in text or b"\x7f" in text or not text.isascii()):
        content = _replace_unprintable(content)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in _READABLE_VERSIONS:
        raise RecordError(
            f"{path}: schema version {version}, "
            f"where this attnbench reads {' and '.join(map(str, _READABLE_VERSIONS))}; "
            "read it with the version that wrote it"
        )
    content |= {"schema_version": SCHEMA_VERSION}
    named = b'"NaN"' in text or b'Infinity"' in text  # skips the conversion for most records, which saves time
    return build_dataclass(cls, _convert_from_json(content) if named else content, str(path))


# Surrogates and control characters.
_UNPRINTABLE = re.compile("[\\ud800-\\udfff\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]")
_MAX_DIGITS = 300  # of an integer; float() can still convert it


def _parse_integer(digits: str) -> int:
    """Parse an integer that can be converted to float."""
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits, which no computation takes")
    return int(digits)


def _replace_unprintable(value: Any) -> Any:
    """Replace surrogate and control characters in all texts of a value by U+FFFD."""
    if isinstance(value, dict):
        return {_replace_unprintable(key): _replace_unprintable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_unprintable(item) for item in value]
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _convert_to_json(value: Any) -> Any:
    """Convert Enums to their values, and NaN and infinity to their names."""
    if isinstance(value, dict):
        return {key: _convert_to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_convert_to_json(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _convert_from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _convert_from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_convert_from_json(item) for item in value]
    return _NON_FINITE_VALUES.get(value, value) if isinstance(value, str) else value
