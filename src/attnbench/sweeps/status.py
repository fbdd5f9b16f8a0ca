"""Status of a sweep from any terminal: reads plan, records, leases and progress files, and writes nothing."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from attnbench.records.record import PLAN_FILE, Record, RecordError, Status, read_plan, read_record
from attnbench.sweeps.display import build_run_labels, format_duration, format_progress
from attnbench.sweeps.lease import find_holder


@dataclass(frozen=True)
class StatusRow:
    """One run of the plan."""

    run_id: str
    title: str
    state: str
    details: str


def format_status(folder: Path) -> str:
    """Format the status of every run of the sweep in `folder`, one line each, and the totals.

    Raises:
        RecordError: if the plan is missing or cannot be read.
    """
    plan = read_plan(folder / PLAN_FILE)
    names = build_run_labels([run.overrides for run in plan.runs])
    rows = [_build_row(folder / run.run_id, title) for run, title in zip(plan.runs, names, strict=True)]
    states, width = Counter(row.state for row in rows), len(str(len(rows)))
    state, title = (max(len(getattr(row, name)) for row in rows) for name in ("state", "title"))
    lines = [
        f"{number:{width}}  {row.run_id}  {row.state:{state}}  {row.title:{title}}  {row.details}".rstrip()
        for number, row in enumerate(rows, 1)
    ]
    totals = ", ".join(f"{count} {name}" for name, count in states.most_common())
    return "\n".join([*lines, f"sweep {plan.sweep}: {len(rows)} runs: {totals}"])


def _build_row(folder: Path, title: str) -> StatusRow:
    try:
        path = folder / "run.json"
        record = read_record(path) if path.exists() else None
    except RecordError as error:
        return StatusRow(folder.name, title, "unreadable", str(error))
    holder = find_holder(folder)
    now = time.time()
    if holder is not None and not holder.is_gone(now):
        seen = f"{holder}, last renewed {format_duration(max(0.0, now - holder.renewed_at))} ago"
        return StatusRow(folder.name, title, "running", "; ".join(filter(None, (format_progress(folder), seen))))
    if record is None:
        return StatusRow(folder.name, title, "not run", "")
    return StatusRow(
        folder.name,
        title,
        "cut off" if record.status is Status.running else record.status_label,
        _describe_record(record),
    )


def _describe_record(record: Record) -> str:
    """Describe a run that is not running."""
    attempts = f"{record.attempts} attempts" if record.attempts > 1 else ""
    if record.status is Status.finished:
        seconds = record.time.get("train_seconds")
        trained = f"trained {format_duration(seconds)}" if isinstance(seconds, (int, float)) else ""
        return "; ".join(filter(None, (trained, attempts)))
    if record.status is Status.running:
        return "; ".join(filter(None, ("ended without reporting a result; the same command continues", attempts)))
    lines = (record.error or {}).get("message", "").splitlines()
    return "; ".join(filter(None, (lines[0] if lines else "", attempts)))
