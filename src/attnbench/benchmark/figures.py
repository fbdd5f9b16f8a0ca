"""A benchmark's times and memory against sequence length, drawn as the figures of runs are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnbench.benchmark.results import Benchmark, Row, Suite
from attnbench.benchmark.table import LOWER, MEDIAN, UPPER, measured_on
from attnbench.report.drawing import draw_lines, write
from attnbench.report.figure_layout import FigureKind, FigureLayout
from attnbench.report.figures import Line, Plot, Point
from attnbench.report.statistics import summarise

_LENGTH = "length"  # what a suite's groups are called if they are that


@dataclass(frozen=True)
class Measured(Plot):
    """A Plot of what was measured, and not of what runs found."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What it was measured on."""
        return self.remarks


def draw(benchmark: Benchmark, folder: Path) -> list[Path]:
    """Write a figure for each number of each suite that was measured at several lengths; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for figure in by_length(benchmark) for path in write(figure, folder, draw_lines)]


def by_length(benchmark: Benchmark) -> Iterator[Measured]:
    """A line for each row of a suite; a length at which it was left out or failed breaks it."""
    where = measured_on(benchmark.provenance, benchmark.settings)
    for suite in benchmark.suites:
        lengths = sorted({int(row.group) for row in suite.rows}) if suite.groups == _LENGTH else []
        keys = dict.fromkeys(key for row in suite.rows for key in row.values if not key.endswith((LOWER, UPPER)))
        for key in keys if len(lengths) > 1 else ():
            label = key.removesuffix(MEDIAN)
            says = f"Medians of {benchmark.settings.repeats} repeats." if key.endswith(MEDIAN) else ""
            yield Measured(
                FigureLayout(f"{suite.name}_{label}", FigureKind.lines, key, _LENGTH, log=True, log_y=True),
                x_label="length of queries and of keys",
                y_label=label,
                ticks=tuple((float(length), str(length)) for length in lengths),
                numeric=True,
                legend="",
                lines=tuple(_lines(suite, lengths, key)),
                remarks=tuple(filter(None, (says, *suite.notes[:1], where))),
            )


def _lines(suite: Suite, lengths: list[int], key: str) -> Iterator[Line]:
    rows: dict[str, dict[str, Row]] = {}
    for row in suite.rows:
        rows.setdefault(row.name, {})[row.group] = row
    for name, found in rows.items():
        points = []
        for length in lengths:
            here = found.get(str(length))
            value = None if here is None else here.values.get(key)
            why = "" if value is not None else "left out" if here is None else here.error or "no value"
            points.append(Point(float(length), None if value is None else summarise([value]), why))
        yield Line(name, tuple(points))
