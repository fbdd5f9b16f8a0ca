"""Compute table cells: mean, spread and number of seeds, or the reason why there is no number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.metrics.statistics import Summary, summarize
from attnbench.records.record import Record
from attnbench.reporting.layout import Column, Spread
from attnbench.reporting.runs import Run

MINUS = "\N{MINUS SIGN}"
_SCIENTIFIC_FROM = 1e12


@dataclass(frozen=True)
class Cell:
    """Content of a table cell: one row's runs in one column."""

    summary: Summary | None  # in the record's unit; None where there is no number
    value: str  # the mean, a text, or the reason why there is no value
    spread: str  # "± 0.35 (n=3)", "[29.1, 30.2] (n=3)", "(n=1)", "± 0.35 (2/3 seeds)", or nothing
    missing: str  # why some runs are not included: "1 failed, 1 not run"
    run_ids: tuple[str, ...]  # runs that the value was computed from
    best: bool = False
    differs: bool = False  # significantly different from the baseline (test over seeds)


def get_record_value(record: Record, key: str) -> Any:
    """Return the value at a dotted path of a record; None if there is none.

    Args:
        record: record of a run.
        key: dotted path, such as metrics.test.bleu.
    """
    first, *rest = key.split(".")
    value = getattr(record, first)
    for part in rest:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def build_cell(runs: Sequence[Run], column: Column) -> Cell:
    """Compute the cell of `runs`, which differ only in their seed.

    Args:
        runs: runs of one row.
        column: the column.
    """
    values: dict[str, Any] = {}
    flagged = 0
    reasons: Counter[str] = Counter()
    for run in runs:
        reason, value = get_run_value(run, column)
        if reason is None:
            values[run.run_id] = value
            flagged += _is_above(run, value, column)
        else:
            reasons[reason] += 1
    missing = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    if not values:
        alone = next(iter(reasons)) if len(reasons) == 1 else missing
        return Cell(summary=None, value=alone, spread="", missing=missing, run_ids=())
    counted = f"{len(values)}/{len(runs)} seeds" if reasons else f"n={len(values)}"
    if flagged:
        counted += f", {column.flag}" if flagged == len(values) else f", {flagged} {column.flag}"
    numbers = [value for value in values.values() if is_number(value)]
    if len(numbers) < len(values):
        text = ", ".join(sorted({str(value) for value in values.values()}))
        return Cell(None, text, f"({counted})" if reasons else "", missing, tuple(values))
    summary = summarize(numbers, interval=column.spread is Spread.interval)
    if all(isinstance(number, int) and number == numbers[0] for number in numbers):
        # A count that is the same for every seed, such as parameters, needs no spread.
        return Cell(
            summary,
            format_number(numbers[0], column),
            f"({counted})" if reasons else "",
            missing,
            tuple(values),
        )
    return Cell(
        summary, format_number(summary.mean, column), _format_spread(summary, column, counted), missing, tuple(values)
    )


def format_number(value: float, column: Column) -> str:
    """Format a number with the column's scale and digits."""
    scaled = value if column.scale == 1.0 else value * column.scale
    if abs(scaled) >= _SCIENTIFIC_FROM:
        return f"{scaled:.2e}"
    if column.digits is None and isinstance(scaled, int):
        return f"{scaled:,}"
    return f"{scaled:z,.{2 if column.digits is None else column.digits}f}"


def format_signed(value: float, column: Column) -> str:
    """Format a difference with its sign, otherwise like `format_number`."""
    text = format_number(abs(value), column)
    return text if not text.strip("0.,") else f"{'+' if value > 0 else MINUS}{text}"


def _format_spread(summary: Summary, column: Column, counted: str) -> str:
    """Format the text behind a mean: standard deviation or interval, and the number of seeds."""
    if summary.std is None or column.spread is Spread.none:
        return f"({counted})"
    if summary.interval is not None:
        return f"[{', '.join(format_number(end, column) for end in summary.interval)}] ({counted})"
    lacking = ", no interval" if column.spread is Spread.interval else ""
    return f"± {format_number(summary.std, column)} ({counted}{lacking})"


def get_run_value(run: Run, column: Column) -> tuple[str | None, Any]:
    """Return a run's value in a column.

    Args:
        run: the run.
        column: the column.

    Returns:
        The reason why there is no value (None if there is one), and the value.
    """
    if run.record is None or not run.is_finished:
        return run.state, None
    value = get_record_value(run.record, column.key)
    if value is None:
        return "no value", None
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite", None
    return None, value


def _is_above(run: Run, value: Any, column: Column) -> bool:
    """Return True if a run's value exceeds the limit of the column (`above`)."""
    limit = None if column.above is None or run.record is None else get_record_value(run.record, column.above)
    return is_number(limit) and is_number(value) and bool(value > limit)


def is_number(value: Any) -> bool:
    """Return True if a value can be averaged; booleans cannot."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
