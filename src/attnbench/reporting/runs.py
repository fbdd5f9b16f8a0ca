"""Collect finished and planned runs, and group them into the rows of a table."""

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
from attnbench.reporting.layout import Column, Layout, config_matches

ABSENT = "\N{EN DASH}"  # a key that this run's kind of config does not have
# The parts of a config that have keys of their own.
GROUPS = ("task", "metrics", "data", "model", "attention", "position", "optim", "schedule", "trainer", "logger",
          "callbacks", "debug", "paths", "sweep")  # fmt: skip
_RUN_ID = re.compile(r"[\w.-]{1,128}")  # a folder is named by it
_SEED = "seed"


@dataclass(frozen=True)
class Run:
    """One run with its flat config, finished or not."""

    run_id: str
    config: dict[str, Any]  # flat: dotted key to value
    identity: dict[str, Any]  # flat; what can change a result
    record: Record | None  # None: planned, and there is no record

    @property
    def state(self) -> str:
        """Status in words, or `not run` for a planned run without a record."""
        return "not run" if self.record is None else self.record.status_label

    @property
    def is_finished(self) -> bool:
        """True if the run finished, so that its numbers count."""
        return self.record is not None and self.record.status is Status.finished


def find_fault(record: Record) -> str | None:
    """Find what makes a well-formed record unusable for tables and pages.

    The config schema is not checked: to import it would take longer than a table, and a record of an older version
    may have other keys.

    Returns:
        A sentence about the fault; None if there is none.
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
    """Read all usable records below a folder.

    Returns:
        The records, and one sentence for each record that is left out.
    """
    records, faults = read_records(folder, find_fault)
    return records, [str(fault).replace(str(folder), folder.name) for fault in faults]


def read_sweep_plan(folder: Path) -> Plan | None:
    """Read the plan of a sweep.

    Args:
        folder: the sweep's folder.

    Returns:
        The plan; None if the folder has none.

    Raises:
        RecordError: the plan cannot be read, or has a run that a table cannot use.
    """
    path = folder / PLAN_FILE
    if not path.is_file():
        return None
    plan = read_plan(path, replace_unprintable=True)
    for index, run in enumerate(plan.runs):
        fault = _find_fault(run.run_id, run.config)
        if fault is not None:
            raise RecordError(
                f"{path}: runs[{index}]: {fault}; restore the file, or move it away to continue without a plan"
            )
    return plan


def flatten_config(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested keys into dotted keys; lists become tuples."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= flatten_config(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = _make_hashable(value) if isinstance(value, list) else value
    return flat


def _make_hashable(value: Any) -> Any:
    """Convert a value to a hashable one: lists to tuples, mappings in them to JSON text."""
    if isinstance(value, list):
        return tuple(_make_hashable(item) for item in value)
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def collect_runs(records: Sequence[Record], plan: Plan | None) -> list[Run]:
    """Collect all planned runs and all runs with records.

    Args:
        records: records of a sweep.
        plan: plan of the sweep, or None.

    Returns:
        The runs, sorted by run_id. A run that has both a plan entry and a record has its record.
    """
    known: dict[str, tuple[dict[str, Any], Record | None]] = {}
    for planned in plan.runs if plan else ():
        known[planned.run_id] = (planned.config, None)
    for record in records:
        known[record.run_id] = (record.config, record)
    return [
        Run(run_id, flatten_config(config), flatten_config(select_identity(config)), record)
        for run_id, (config, record) in sorted(known.items())
    ]


def select_runs(runs: Sequence[Run], layout: Layout, layout_path: str) -> list[Run]:
    """Select the runs that match `where` of the layout.

    Args:
        runs: all runs of the sweep.
        layout: content of table.yaml.
        layout_path: path of table.yaml, for error messages.

    Raises:
        RecordError: the layout has a config key that no run has.
    """
    known = {key for run in runs for key in run.config}
    row_keys = [*layout.rows, *(key for figure in layout.figures for key in figure.setting_keys)]
    for key in [
        *(row.key for row in row_keys),
        *layout.where,
        *layout.baseline,
        *(key for group in layout.groups for key in group.keys),
        *(key for figure in layout.figures for key in figure.where),
    ]:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise RecordError(f"{layout_path}: no run has the config key {key}{hint}")
    return [run for run in runs if config_matches(run.config, layout.where)]


def group_into_rows(
    runs: Sequence[Run], rows: Sequence[RowKey], columns: Sequence[Column]
) -> tuple[list[RowKey], list[list[Run]]]:
    """Group runs into table rows; the runs of one row differ only in their seed.

    A config key that differs within a row and is not shown in a column becomes a row key, so that different settings
    are never averaged.

    Args:
        runs: runs to group.
        rows: row keys of the layout.
        columns: columns of the table; config keys among them part rows too.

    Returns:
        The row keys (those of the layout, then the added ones), and the runs of each row.
    """
    columns_shown = [column.key.removeprefix("config.") for column in columns if column.key.startswith("config.")]
    shown = [row.key for row in rows] + columns_shown
    extra = [RowKey(key) for key in _find_differing_keys(_partition(runs, shown)) if key not in shown]
    keys = [*rows, *(RowKey(key) for key in columns_shown), *extra]
    groups = _partition(runs, [key.key for key in keys])
    return [*rows, *extra], [groups[values] for values in sorted(groups, key=lambda values: _sort_key(keys, values))]


def _partition(runs: Sequence[Run], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Run]]:
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.config.get(key, ABSENT) for key in keys), []).append(run)
    return groups


def _find_differing_keys(groups: Mapping[tuple[Any, ...], Sequence[Run]]) -> Iterator[str]:
    """Yield config keys, except the seed, that differ within some group, in the order of the config."""
    keys = {key: None for runs in groups.values() for run in runs for key in run.identity}
    for key in keys:
        if key != _SEED and any(len({run.identity.get(key, ABSENT) for run in runs}) > 1 for runs in groups.values()):
            yield key


def _sort_key(keys: Sequence[RowKey], values: tuple[Any, ...]) -> list[tuple[int, int, float, str]]:
    """Build a sort key: named values first, in the order of the layout; then numbers by size; then text."""
    return [
        (key.get_sort_position(value), 0, float(value), "")
        if isinstance(value, (int, float))
        else (key.get_sort_position(value), 1, 0.0, str(value))
        for key, value in zip(keys, values, strict=True)
    ]
