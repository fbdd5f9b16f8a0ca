"""What stands in a cell: mean, spread and n, or why there is no number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnbench.records.record import Record
from attnbench.reporting.layout import Column, Spread
from attnbench.reporting.runs import Run
from attnbench.reporting.statistics import Summary, summarise

MINUS = "\N{MINUS SIGN}"
_TOO_LONG_TO_SPELL = 1e12


@dataclass(frozen=True)
class Cell:
    """One row's runs, seen through one column."""

    summary: Summary | None  # in the record's unit; None where there is no number
    value: str  # the mean, or a text, or why there is neither
    spread: str  # "± 0.35 (n=3)", "[29.1, 30.2] (n=3)", "(n=1)", "± 0.35 (2/3 seeds)", or nothing
    missing: str  # why some runs do not count: "1 failed, 1 not run"
    run_ids: tuple[str, ...]  # that the value is made of
    best: bool = False
    differs: bool = False  # from the baseline, says the test over seeds


def lookup(record: Record, key: str) -> Any:
    """The value at a dotted path, or None."""
    first, *rest = key.split(".")
    value = getattr(record, first)
    for part in rest:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def build_cell(runs: Sequence[Run], column: Column) -> Cell:
    """The cell of `runs`, which differ in their seed only."""
    values: dict[str, Any] = {}
    flagged = 0
    reasons: Counter[str] = Counter()
    for run in runs:
        reason, value = value_of(run, column)
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
    summary = summarise(numbers, interval=column.spread is Spread.interval)
    if all(isinstance(number, int) and number == numbers[0] for number in numbers):
        # A count that is the same for every seed, such as parameters, needs no spread.
        return Cell(
            summary,
            number_text(numbers[0], column),
            f"({counted})" if reasons else "",
            missing,
            tuple(values),
        )
    return Cell(summary, number_text(summary.mean, column), _spread(summary, column, counted), missing, tuple(values))


def number_text(value: float, column: Column) -> str:
    """A number with the column's scale and digits."""
    scaled = value if column.scale == 1.0 else value * column.scale
    if abs(scaled) >= _TOO_LONG_TO_SPELL:
        return f"{scaled:.2e}"
    if column.digits is None and isinstance(scaled, int):
        return f"{scaled:,}"
    return f"{scaled:z,.{2 if column.digits is None else column.digits}f}"


def signed(value: float, column: Column) -> str:
    """A difference, as `number_text` with its sign."""
    text = number_text(abs(value), column)
    return text if not text.strip("0.,") else f"{'+' if value > 0 else MINUS}{text}"


def _spread(summary: Summary, column: Column, counted: str) -> str:
    """What stands behind a mean."""
    if summary.std is None or column.spread is Spread.none:
        return f"({counted})"
    if summary.interval is not None:
        return f"[{', '.join(number_text(end, column) for end in summary.interval)}] ({counted})"
    lacking = ", no interval" if column.spread is Spread.interval else ""
    return f"± {number_text(summary.std, column)} ({counted}{lacking})"


def value_of(run: Run, column: Column) -> tuple[str | None, Any]:
    """Why the run has no value, or its value."""
    if run.record is None or not run.finished:
        return run.state, None
    value = lookup(run.record, column.key)
    if value is None:
        return "no value", None
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite", None
    return None, value


def _is_above(run: Run, value: Any, column: Column) -> bool:
    """Whether a run's value exceeds what the column says it should stay under."""
    limit = None if column.above is None or run.record is None else lookup(run.record, column.above)
    return is_number(limit) and is_number(value) and bool(value > limit)


def is_number(value: Any) -> bool:
    """Whether a value can be averaged; true and false cannot."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
