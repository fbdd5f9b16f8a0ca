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
_READABLE_VERSIONS = (1, 2)  # 1: no attempts, no kind of error
RECORD_FILE = "run.json"
PLAN_FILE = "plan.json"
PROGRESS_FILE = "progress.json"  # there while a run trains

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
    perhaps_memory = "killed (out of memory?)"  # by the kernel, which had run short of memory
    killed = "killed"  # by a signal that nobody here sent, or an exit without a word
    hung = "hung"  # no sign of progress for sweep.hang_timeout_minutes
    disk_full = "disk full"
    not_writable = "not writable"  # a folder or file system that may not be written to
    refused = "refused"  # a config or data that trying again does not mend
    interrupted = "interrupted"
    pruned = "pruned"  # by a search that had seen enough
    raised = "raised"  # any other exception


@dataclass
class Record:
    """What one run leaves: the truth that tables are made from."""

    schema_version: int
    run_id: str
    name: str  # of the experiment
    sweep: str
    status: Status
    config: dict[str, Any]  # identity.resolved
    overrides: list[str]
    seed: int
    provenance: dict[str, Any]  # identity.provenance, of the last attempt
    parameters: dict[str, int]  # total, trainable
    metrics: dict[str, dict[str, Any]]  # final: last validation; best: by validation; test
    performance: dict[str, Any]  # units stand in the keys
    notes: list[str]  # what a reader of the numbers must know; a table prints them
    tracker: dict[str, Any] | None  # where the mirror is
    error: dict[str, str] | None  # kind, type, message, traceback
    time: dict[str, Any]  # started, ended (ISO 8601, UTC), train_seconds
    attempts: int = 1  # how often it was begun or gone on with
    sessions: list[dict[str, Any]] = dataclasses.field(
        default_factory=list
    )  # of each attempt: attempt, started, its provenance

    def set_provenance(self, provenance: dict[str, Any]) -> None:
        """Set where the numbers of this attempt come from; those of earlier attempts stay in `sessions`."""
        self.provenance = provenance
        earlier = [session for session in self.sessions if session["attempt"] != self.attempts]
        this = {"attempt": self.attempts, "started": self.time["started"], **provenance}
        self.sessions = [*earlier, this]

    @property
    def all_sessions(self) -> list[dict[str, Any]]:
        """`sessions`; of a record that has none, written by an older version, what it says of the last attempt."""
        return self.sessions or [{"attempt": self.attempts, "started": self.time.get("started"), **self.provenance}]

    @property
    def status_label(self) -> str:
        """The status; of a failed run why it failed, where that is known."""
        kind = (self.error or {}).get("kind", FailureReason.raised)
        return self.status.name if self.status is not Status.failed or kind == FailureReason.raised else kind


@dataclass
class PlannedRun:
    """One combination of a sweep."""

    run_id: str
    overrides: list[str]
    config: dict[str, Any]  # identity.resolved


@dataclass
class Plan:
    """Every run that a sweep is made of, written before the first begins."""

    schema_version: int
    sweep: str
    command: list[str]  # the overrides as typed, sweeps in them unexpanded
    runs: list[PlannedRun]


def write_record(content: Record | Plan, folder: Path) -> Path:
    """Write run.json or plan.json into `folder`, whole or not at all, and return its path.

    Raises:
        TypeError: a value that JSON has no form for, such as a tensor; what was there before stays.
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
    """Leave word in a run's folder of how far training has come: update `update`, of `of` if that is known."""
    draft = folder / f".{PROGRESS_FILE}.{os.getpid()}.tmp"
    draft.write_text(json.dumps([update, max_updates]), encoding="utf-8")
    os.replace(draft, folder / PROGRESS_FILE)


def read_progress(folder: Path) -> tuple[int, int | None] | None:
    """What `write_progress` wrote, or None where there is nothing to read."""
    try:
        update, of = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return (update, of) if type(update) is int and (of is None or type(of) is int) else None


def read_record(path: Path) -> Record:
    """The record in the file `path`.

    Raises:
        RecordError: unreadable, no JSON, another schema version, or a field missing, unknown or mistyped.
    """
    return _read_json(Record, path)


def read_plan(path: Path, *, replace_unprintable: bool = False) -> Plan:
    """The plan in the file `path`.

    Raises as `read_record` does. With `printable`, texts are as `read_records` has them.
    """
    return _read_json(Plan, path, replace_unprintable=replace_unprintable)


def read_records(
    folder: Path, find_fault: Callable[[Record], str | None] = lambda record: None
) -> tuple[list[Record], list[RecordError]]:
    """Read every record below `folder`, to be shown: by run_id, and what is wrong with those that are left out.

    A run's own folder is not searched further. A second record of a run is a problem, not a second sample. Halves of
    characters (bytes of file names that are not UTF-8) and control characters become U+FFFD in all texts: no file takes
    the former, and a terminal obeys the latter.

    Args:
        folder: of a sweep, of a run, or of several.
        find_fault: returns what the caller cannot use in a record, in words, or None.
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
    """The dataclass `cls` from what a JSON or YAML file holds; `where` names the file, and the key in it.

    Raises:
        RecordError: a field that is missing, unknown or of a wrong type.
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
    """`value` as `hint` wants it."""
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
        return float(value)
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
    named = b'"NaN"' in text or b'Infinity"' in text  # else there is nothing to look for, in a thousand records
    return build_dataclass(cls, _convert_from_json(content) if named else content, str(path))


# What no file or terminal takes: halves of characters, and control characters.
_UNPRINTABLE = re.compile("[\\ud800-\\udfff\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]")
_MAX_DIGITS = 300  # of a whole number: a float takes some more


def _parse_integer(digits: str) -> int:
    """Parse a whole number that can be computed with."""
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits, which no computation takes")
    return int(digits)


def _replace_unprintable(value: Any) -> Any:
    """Return `value` with U+FFFD for every half of a character and control character in its texts."""
    if isinstance(value, dict):
        return {_replace_unprintable(key): _replace_unprintable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_unprintable(item) for item in value]
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value


def _reject_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")


def _convert_to_json(value: Any) -> Any:
    """Enums by value, numbers that JSON lacks by name; reading takes a text like that for the number."""
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
