"""Format a benchmark's record as Markdown tables; the same record gives the same tables."""

from __future__ import annotations

import math
import re
from typing import Any

from attnbench.benchmarks.results import NOT_INSTALLED, Benchmark, Row, Settings, Suite
from attnbench.reporting import aggregation
from attnbench.reporting.cells import Cell, format_number
from attnbench.reporting.formats import format_markdown
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import ABSENT

MEDIAN, LOWER, UPPER = "_p50", "_p25", "_p75"
EXPONENT = "_exponent"  # suffix of an exponent that was fitted to the sizes of a row
SIZED_KEY = re.compile(rf"(\w+)_at_(\d+)_([a-z]+)({MEDIAN})?")  # number, size, unit of the size
_DIGITS = 3  # significant digits
_SUFFIXES_WITHOUT_RATIO = (
    "_percent",
    "bleu",
    "_per_sentence",
)  # keys without a ratio: they are ratios themselves, or no costs
_RATIO_SIGN = "\N{MULTIPLICATION SIGN}"


def format_tables(benchmark: Benchmark) -> str:
    """Format a table for each suite."""
    where = describe_environment(benchmark.provenance, benchmark.settings)
    return "\n".join(format_markdown(_build_table(suite, where)) for suite in benchmark.suites)


def format_sized_key(key: str, size: int, unit: str) -> str:
    """Return the key of a number that has several sizes in one row; `SIZED_KEY` parses it.

    Args:
        key: name of the number.
        size: the size.
        unit: unit of the size.
    """
    return f"{key}_at_{size}_{unit}"


def describe_environment(provenance: dict[str, Any], settings: Settings) -> str:
    """Describe versions, device and settings in one sentence."""
    versions, git = provenance["versions"], provenance["git"]
    code = "" if git is None else f" at commit {git['commit'][:12]}{', changed since' * git['dirty']}"
    device, cpu, threads = provenance["device"], provenance["cpu"], provenance["threads"]
    on = f"{cpu}, {threads} of {provenance['cpu_cores']} cores"
    return (
        f"attnbench {versions['attnbench']}{code}, torch {versions['torch']}, Python {versions['python']}; "
        f"{on if device == 'cpu' else f'{device}, {on}'}; {settings.dtype}."
    )


def _build_table(suite: Suite, where: str) -> aggregation.Table:
    keys = list(dict.fromkeys(key for row in suite.rows for key in row.values if not key.endswith((LOWER, UPPER))))
    grouped = any(row.group for row in suite.rows)
    texts = list(dict.fromkeys(text for row in suite.rows for text in row.texts))
    baselines = any(row.baseline for row in suite.rows)
    labels = (
        [RowKey(suite.group_name)] * grouped + [RowKey("row"), *map(RowKey, texts)] + [RowKey("baseline")] * baselines
    )
    compared = [key for key in keys if baselines and not key.endswith(_SUFFIXES_WITHOUT_RATIO)]
    columns = [
        column
        for key in keys
        for column in (
            Column(key, label=_format_heading(key)),
            *[Column(f"{key}_ratio", _RATIO_SIGN)] * (key in compared),
        )
    ]
    rows = tuple(
        aggregation.Row(
            labels=(
                *[row.group] * grouped,
                row.name,
                *[row.texts.get(text, ABSENT) for text in texts],
                *[row.baseline] * baselines,
            ),
            cells=tuple(
                cell
                for key in keys
                for cell in (_build_value_cell(row, key), *[_build_ratio_cell(suite, row, key)] * (key in compared))
            ),
            published=((),) * len(columns),
        )
        for row in suite.rows
    )
    failed = [
        f"{' '.join(filter(None, (suite.group_name, row.group, row.name)))}: {row.error}"
        for row in suite.rows
        if row.error is not None
    ]
    ratios = [f"{_RATIO_SIGN}: over the baseline's, which took turns with it."] * baselines
    notes = (where, *suite.notes, *ratios, *failed)
    return aggregation.Table(suite.name, tuple(labels), tuple(columns), rows, notes, marks=())


def _format_heading(key: str) -> str:
    return f"{key} [p25, p75]" if key.endswith(MEDIAN) else key


def _build_value_cell(row: Row, key: str) -> Cell:
    if key not in row.values:
        missing = row.error is not None and row.error.startswith(NOT_INSTALLED)
        return _build_cell(ABSENT if row.error is None else NOT_INSTALLED if missing else "failed")
    stem = key.removesuffix(MEDIAN)
    ends = [_format_number(row.values[stem + end]) for end in (LOWER, UPPER) if stem + end in row.values]
    return _build_cell(_format_number(row.values[key]), f"[{', '.join(ends)}]" if ends else "")


def _build_ratio_cell(suite: Suite, row: Row, key: str) -> Cell:
    ratio = suite.compute_ratio(row, key)
    return _build_cell(ABSENT if ratio is None else _format_number(ratio))


def _build_cell(value: str, spread: str = "") -> Cell:
    return Cell(summary=None, value=value, spread=spread, missing="", run_ids=())


def _format_number(value: float) -> str:
    digits = _DIGITS - 1 - math.floor(math.log10(abs(value))) if value else 0
    return format_number(value, Column("", digits=max(0, digits)))
