"""How a sweep stands, from any terminal: plan, records, leases and progress files, read and nothing written."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from attnbench.records.record import PLAN_FILE, Record, RecordError, Status, read_plan, read_record
from attnbench.sweeps.display import lasted, progress_text, titles
from attnbench.sweeps.lease import holder_of


@dataclass(frozen=True)
class Row:
    """One run of the plan."""

    run_id: str
    title: str
    state: str
    said: str


def table(folder: Path) -> str:
    """Every run of the sweep in `folder`, a line each, and the totals.

    Raises:
        RecordError: there is no plan, or none that can be read.
    """
    plan = read_plan(folder / PLAN_FILE)
    names = titles([run.overrides for run in plan.runs])
    rows = [_row(folder / run.run_id, title) for run, title in zip(plan.runs, names, strict=True)]
    states, width = Counter(row.state for row in rows), len(str(len(rows)))
    state, title = (max(len(getattr(row, name)) for row in rows) for name in ("state", "title"))
    lines = [
        f"{number:{width}}  {row.run_id}  {row.state:{state}}  {row.title:{title}}  {row.said}".rstrip()
        for number, row in enumerate(rows, 1)
    ]
    totals = ", ".join(f"{count} {name}" for name, count in states.most_common())
    return "\n".join([*lines, f"sweep {plan.sweep}: {len(rows)} runs: {totals}"])


def _row(folder: Path, title: str) -> Row:
    try:
        path = folder / "run.json"
        record = read_record(path) if path.exists() else None
    except RecordError as error:
        return Row(folder.name, title, "unreadable", str(error))
    holder = holder_of(folder)
    now = time.time()
    if holder is not None and not holder.gone(now):
        seen = f"{holder}, last sign of life {lasted(max(0.0, now - holder.touched))} ago"
        return Row(folder.name, title, "running", "; ".join(filter(None, (progress_text(folder), seen))))
    if record is None:
        return Row(folder.name, title, "not run", "")
    return Row(folder.name, title, "cut off" if record.status is Status.running else record.status_label, _said(record))


def _said(record: Record) -> str:
    """What to know of a run that does not go on."""
    attempts = f"{record.attempts} attempts" if record.attempts > 1 else ""
    if record.status is Status.finished:
        seconds = record.time.get("train_seconds")
        trained = f"trained {lasted(seconds)}" if isinstance(seconds, (int, float)) else ""
        return "; ".join(filter(None, (trained, attempts)))
    if record.status is Status.running:
        return "; ".join(filter(None, ("ended without a word; the same command goes on", attempts)))
    lines = (record.error or {}).get("message", "").splitlines()
    return "; ".join(filter(None, (lines[0] if lines else "", attempts)))
