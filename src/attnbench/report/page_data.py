"""The runs of some sweeps as the page's table wants them: a field a key, whose values are said once."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnbench.record import RECORD, Record
from attnbench.report.aggregate import Table, default_columns
from attnbench.report.cells import is_number, number_text
from attnbench.report.runs import Run, flatten, gather, read_plan_of, read_records

_LOG_LINES, _LOG_BYTES = 60, 2**16  # of the end of a run's log
_RESULTS = ("metrics.test", "metrics.best", "metrics.final", "parameters", "performance", "time")
_ABSENT = -1


@dataclass(frozen=True)
class Sources:
    """Runs, and where each has its folder."""

    runs: list[Run]
    folders: dict[str, Path]  # by run_id
    problems: list[str]  # of records that could not be taken


def collect(folders: Sequence[Path]) -> Sources:
    """Every run that was planned or left a record below `folders`; one that several have is taken once.

    Raises:
        RecordError: a plan that cannot be read.
    """
    runs: dict[str, Run] = {}
    places: dict[str, Path] = {}
    problems: list[str] = []
    for folder in folders:
        records, faults = read_records(folder)
        plan = read_plan_of(folder)
        for run in gather(records, plan):
            if run.run_id not in runs or runs[run.run_id].record is None:
                runs[run.run_id] = run
        places = {path.name: path for path in _run_folders(folder)} | places
        problems += faults
    return Sources([runs[key] for key in sorted(runs)], places, problems)


def _run_folders(folder: Path) -> Iterator[Path]:
    for parent, below, files in os.walk(folder):
        if RECORD in files:
            below.clear()
            yield Path(parent)


def describe_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Fields, and which of them a table shows at first: the state, what differs, and what `make table` shows."""
    rows = [_values(run) for run in runs]
    keys = {key: None for row in rows for key in row}
    fields = {key: _field([row.get(key) for row in rows], [key in row for row in rows]) for key in keys}
    identity = {f"config.{key}": None for run in runs for key in run.identity}
    differing = [key for key in identity if key != "config.seed" and len(set(fields[key]["index"])) > 1]
    shown = [column.key for column in default_columns(runs) if column.key in fields]
    return {
        "ids": [run.run_id for run in runs],
        "fields": [{"key": key, **field} for key, field in fields.items()],
        "differing": differing,
        "shown": ["state", *differing, "config.seed", *shown, *(["time.train_seconds"] if shown else [])],
    }


def _values(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"state": run.state}
    found |= {f"config.{key}": _plain(value) for key, value in run.config.items()}
    if run.record is not None:
        found |= {key: _plain(value) for key, value in _results(run.record)}
    return found


def _results(record: Record) -> Iterator[tuple[str, Any]]:
    """Numbers, and short words such as the device's name."""
    for group in _RESULTS:
        first, _, second = group.partition(".")
        content = getattr(record, first)
        for key, value in flatten(content.get(second, {}) if second else content).items():
            if is_number(value) or (isinstance(value, str) and first == "performance"):
                yield f"{group}.{key}", value
    yield "attempts", record.attempts


def _plain(value: Any) -> Any:
    """What JSON can say."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value) if isinstance(value, (tuple, list, dict)) else value


def _field(values: Sequence[Any], there: Sequence[bool]) -> dict[str, Any]:
    places: dict[tuple[type, Any], int] = {}
    index = [
        places.setdefault((type(value), value), len(places)) if known else _ABSENT
        for value, known in zip(values, there, strict=True)
    ]
    return {"values": [value for _, value in places], "index": index}


def describe_table(table: Table, places: Mapping[str, int]) -> dict[str, Any]:
    """A table as `make table` has it, its cells as text and number, its rows with the places of their runs."""
    grouped = any(row.group for row in table.rows)
    return {
        "title": table.title,
        "keys": ["group"] * grouped + [key.label or key.key for key in table.keys],
        "columns": [column.heading for column in table.columns],
        "rows": [
            {
                "labels": [row.group] * grouped + list(row.labels),
                "cells": [
                    {
                        "value": cell.value,
                        "spread": cell.spread,
                        "missing": cell.missing,
                        "mean": cell.summary.mean if cell.summary and math.isfinite(cell.summary.mean) else None,
                        "best": cell.best,
                        "published": [f"[{one.mark}: {number_text(one.value, column)}]" for one in published],
                    }
                    for cell, column, published in zip(row.cells, table.columns, row.published, strict=True)
                ],
                "runs": sorted(places[run_id] for run_id in row.run_ids if run_id in places),
            }
            for row in table.rows
        ],
        "notes": [*table.notes, *(f"[{mark}] {cited}" for mark, cited in table.marks)],
    }


def describe_failures(sources: Sources) -> list[dict[str, Any]]:
    """What is known of each run that has no result: its kind, what was raised, the end of its log."""
    found = []
    for place, run in enumerate(sources.runs):
        if run.finished:
            continue
        error = (run.record.error if run.record is not None else None) or {}
        found.append(
            {
                "run": place,
                "state": run.state,
                "type": error.get("type", ""),
                "message": error.get("message", ""),
                "traceback": error.get("traceback", ""),
                "log": _log(sources.folders.get(run.run_id)),
            }
        )
    return found


def _log(folder: Path | None) -> str:
    """The end of what a run wrote into log files."""
    if folder is None:
        return ""
    said = []
    for path in sorted(folder.glob("*.log")):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        said += [f"{path.name}:", *lines] if lines else []
    return "\n".join(said)
