"""A benchmark's times and memory against sequence length, drawn as the figures of runs are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnbench.benchmarks.results import Benchmark, Row, Suite
from attnbench.benchmarks.table import EXPONENT, LOWER, MEDIAN, SIZED, UPPER, measured_on
from attnbench.reporting.drawing import draw_lines, write_figure_files
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.figures import Line, Plot, Point
from attnbench.reporting.statistics import summarize

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
    return [path for figure in by_length(benchmark) for path in write_figure_files(figure, folder, draw_lines)]


def by_length(benchmark: Benchmark) -> Iterator[Measured]:
    """A line for each row of a suite; a size at which it was left out or failed breaks it."""
    where = measured_on(benchmark.provenance, benchmark.settings)
    for suite, sizes, legend in (part for whole in benchmark.suites for part in _by_size(whole)):
        places = sorted({int(row.group) for row in suite.rows})
        keys = dict.fromkeys(key for row in suite.rows for key in row.values if not key.endswith((LOWER, UPPER)))
        for key in keys if len(places) > 1 else ():
            label = key.removesuffix(MEDIAN)
            says = f"Medians of {benchmark.settings.repeats} repeats." if key.endswith(MEDIAN) else ""
            yield Measured(
                FigureLayout(f"{suite.name}_{label}", FigureKind.lines, key, suite.groups, log=True, log_y=True),
                x_label=sizes,
                y_label=label,
                ticks=tuple((float(place), str(place)) for place in places),
                numeric=True,
                legend=legend,
                lines=tuple(_lines(suite, places, key)),
                remarks=tuple(filter(None, (says, *suite.notes[:1], where))),
            )


def _by_size(suite: Suite) -> Iterator[tuple[Suite, str, str]]:
    """Suites whose groups are sizes, what those are, what rows are: it, or one for each number of many sizes."""
    if suite.groups == _LENGTH:
        yield suite, "length of queries and of keys", ""
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in suite.rows:
        for key, value in row.values.items():
            found = SIZED.fullmatch(key)
            if found is not None:
                number, size, unit, median = found.groups("")
                slope = row.values.get(number + EXPONENT + median)
                name = row.name if slope is None else f"{row.name}: {slope:.2f}"
                rows.setdefault((number + median, unit), []).append(Row(size, name, "", {number + median: value}))
    for (_, unit), members in rows.items():
        yield Suite(suite.name, unit, suite.notes, members), unit, "row: exponent"


def _lines(suite: Suite, places: list[int], key: str) -> Iterator[Line]:
    rows: dict[str, dict[str, Row]] = {}
    for row in suite.rows:
        rows.setdefault(row.name, {})[row.group] = row
    for name, found in rows.items():
        points = []
        for place in places:
            here = found.get(str(place))
            value = None if here is None else here.values.get(key)
            why = "" if value is not None else "left out" if here is None else here.error or "no value"
            points.append(Point(float(place), None if value is None else summarize([value]), why))
        yield Line(name, tuple(points))
