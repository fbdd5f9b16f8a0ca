"""Runs that happened and runs that were planned, sorted into the rows of a table."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.records.identity import select_identity
from attnbench.records.record import PLAN_FILE, Plan, Record, RecordError, Status, read_plan, read_records
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import Column, Layout, agrees

ABSENT = "\N{EN DASH}"  # a key that this run's kind of config does not have
# The parts of a config that have keys of their own.
GROUPS = ("task", "metrics", "data", "model", "attention", "position", "optim", "schedule", "trainer", "logger",
          "callbacks", "debug", "paths", "sweep")  # fmt: skip
_RUN_ID = re.compile(r"[\w.-]{1,128}")  # a folder is named by it
_SEED = "seed"


@dataclass(frozen=True)
class Run:
    """One run, whatever became of it."""

    run_id: str
    config: dict[str, Any]  # flat: dotted key to value
    identity: dict[str, Any]  # flat; what can change a result
    record: Record | None  # None: planned, and there is no record

    @property
    def state(self) -> str:
        """How far it has come, or why no further, in words."""
        return "not run" if self.record is None else self.record.status_label

    @property
    def finished(self) -> bool:
        """Whether its numbers count."""
        return self.record is not None and self.record.status is Status.finished


def find_fault(record: Record) -> str | None:
    """Find what tables and pages cannot use in a record that is otherwise well formed, in words; None if there is none.

    The schema itself is not asked: it would take longer to import than a table takes, and a record of an older version
    may have other keys.
    """
    return _find_fault(record.run_id, record.config)


def _find_fault(run_id: str, config: Mapping[str, Any]) -> str | None:
    if _RUN_ID.fullmatch(run_id) is None:
        return f"run_id: expected letters, digits, - and _, given {run_id[:60]!r}"
    for group in GROUPS:
        if not isinstance(config.get(group, {}), Mapping):
            return f"config.{group}: expected keys with values, given {config[group]!r:.60}"
    for group in ("sweep", "trainer"):
        if group not in config:
            return f"config: {group} is missing"
    if type(config.get("seed")) is not int:
        return f"config.seed: expected a whole number, given {config.get('seed')!r:.60}"
    table = config["sweep"].get("table")
    if table is not None and not isinstance(table, str):
        return f"config.sweep.table: expected text, given {table!r:.60}"
    return None


def load_records(folder: Path) -> tuple[list[Record], list[str]]:
    """Read every record below `folder` that a table can use; and a sentence for each that is left out."""
    records, faults = read_records(folder, find_fault)
    return records, [str(fault).replace(str(folder), folder.name) for fault in faults]


def read_plan_of(folder: Path) -> Plan | None:
    """Read the plan in a sweep's folder; None where there is none.

    Raises:
        RecordError: it cannot be read, or has a run that a table cannot use.
    """
    path = folder / PLAN_FILE
    if not path.is_file():
        return None
    plan = read_plan(path, replace_unprintable=True)
    for index, run in enumerate(plan.runs):
        fault = _find_fault(run.run_id, run.config)
        if fault is not None:
            raise RecordError(f"{path}: runs[{index}]: {fault}; restore the file, or move it away to do without it")
    return plan


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones; a list is one value."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = _hashable(value) if isinstance(value, list) else value
    return flat


def _hashable(value: Any) -> Any:
    """Return a value by which runs can be grouped: lists as tuples, and a mapping within one as text."""
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def gather(records: Sequence[Record], plan: Plan | None) -> list[Run]:
    """Every run that was planned or left a record, by run_id."""
    known: dict[str, tuple[dict[str, Any], Record | None]] = {}
    for planned in plan.runs if plan else ():
        known[planned.run_id] = (planned.config, None)
    for record in records:
        known[record.run_id] = (record.config, record)
    return [
        Run(run_id, flatten(config), flatten(select_identity(config)), record)
        for run_id, (config, record) in sorted(known.items())
    ]


def select(runs: Sequence[Run], layout: Layout, where: str) -> list[Run]:
    """The runs that the layout asks for.

    Raises:
        RecordError: the layout, which `where` names, asks for a key that no run has.
    """
    known = {key for run in runs for key in run.config}
    asked = [*layout.rows, *(key for figure in layout.figures for key in figure.keys)]
    for key in [
        *(row.key for row in asked),
        *layout.where,
        *layout.baseline,
        *(key for group in layout.groups for key in group.keys),
        *(key for figure in layout.figures for key in figure.where),
    ]:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RecordError(f"{where}: no run has the config key {key}{hint}")
    return [run for run in runs if agrees(run.config, layout.where)]


def sort_into_rows(
    runs: Sequence[Run], rows: Sequence[RowKey], columns: Sequence[Column]
) -> tuple[list[RowKey], list[list[Run]]]:
    """The row keys, and the runs of each row; runs of one row differ in their seed and in nothing else.

    A key that would differ within a row, and that no column shows, becomes a row key itself: what is not the
    same is never averaged.
    """
    columns_shown = [column.key.removeprefix("config.") for column in columns if column.key.startswith("config.")]
    shown = [row.key for row in rows] + columns_shown
    extra = [RowKey(key) for key in _differing(_partition(runs, shown)) if key not in shown]
    keys = [*rows, *(RowKey(key) for key in columns_shown), *extra]
    groups = _partition(runs, [key.key for key in keys])
    return [*rows, *extra], [groups[values] for values in sorted(groups, key=lambda values: _order(keys, values))]


def _partition(runs: Sequence[Run], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Run]]:
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.config.get(key, ABSENT) for key in keys), []).append(run)
    return groups


def _differing(groups: Mapping[tuple[Any, ...], Sequence[Run]]) -> Iterator[str]:
    """Keys, the seed aside, that differ within some group, in the order of the config."""
    keys = {key: None for runs in groups.values() for run in runs for key in run.identity}
    for key in keys:
        if key != _SEED and any(len({run.identity.get(key, ABSENT) for run in runs}) > 1 for runs in groups.values()):
            yield key


def _order(keys: Sequence[RowKey], values: tuple[Any, ...]) -> list[tuple[int, int, float, str]]:
    """What has a name as it was named, then numbers by size, then words by spelling."""
    return [
        (key.rank(value), 0, float(value), "")
        if isinstance(value, (int, float))
        else (key.rank(value), 1, 0.0, str(value))
        for key, value in zip(keys, values, strict=True)
    ]
