"""Draw time and memory of a benchmark against sequence length, in the style of the runs' figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnbench.benchmarks.results import Benchmark, Row, Suite
from attnbench.benchmarks.table import EXPONENT, LOWER, MEDIAN, SIZED_KEY, UPPER, describe_environment
from attnbench.metrics.statistics import summarize
from attnbench.reporting.drawing import draw_lines, write_figure_files
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.figures import Line, Plot, Point

_LENGTH_GROUP = "length"  # group name of suites with sequence lengths


@dataclass(frozen=True)
class BenchmarkPlot(Plot):
    """Plot of measured numbers instead of runs."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the measurement."""
        return self.remarks


def draw_figures(benchmark: Benchmark, folder: Path) -> list[Path]:
    """Write a figure for each number of each suite that was measured at several lengths.

    Args:
        benchmark: the record.
        folder: folder to write into.

    Returns:
        Paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [path for figure in build_plots(benchmark) for path in write_figure_files(figure, folder, draw_lines)]


def build_plots(benchmark: Benchmark) -> Iterator[BenchmarkPlot]:
    """Yield plots with one line per row of a suite; a size that was left out or failed interrupts the line."""
    where = describe_environment(benchmark.provenance, benchmark.settings)
    for suite, sizes, legend in (part for whole in benchmark.suites for part in _split_by_size(whole)):
        places = sorted({int(row.group) for row in suite.rows})
        keys = dict.fromkeys(key for row in suite.rows for key in row.values if not key.endswith((LOWER, UPPER)))
        for key in keys if len(places) > 1 else ():
            label = key.removesuffix(MEDIAN)
            says = f"Medians of {benchmark.settings.repeats} repeats." if key.endswith(MEDIAN) else ""
            yield BenchmarkPlot(
                FigureLayout(f"{suite.name}_{label}", FigureKind.lines, key, suite.group_name, log=True, log_y=True),
                x_label=sizes,
                y_label=label,
                ticks=tuple((float(place), str(place)) for place in places),
                numeric=True,
                legend=legend,
                lines=tuple(_build_lines(suite, places, key)),
                remarks=tuple(filter(None, (says, *suite.notes[:1], where))),
            )


def _split_by_size(suite: Suite) -> Iterator[tuple[Suite, str, str]]:
    """Yield suites whose groups are sizes, the label of the sizes, and the title of the legend."""
    if suite.group_name == _LENGTH_GROUP:
        yield suite, "length of queries and of keys", ""
    rows: dict[tuple[str, str], list[Row]] = {}
    for row in suite.rows:
        for key, value in row.values.items():
            found = SIZED_KEY.fullmatch(key)
            if found is not None:
                number, size, unit, median = found.groups("")
                slope = row.values.get(number + EXPONENT + median)
                name = row.name if slope is None else f"{row.name}: {slope:.2f}"
                rows.setdefault((number + median, unit), []).append(Row(size, name, "", {number + median: value}))
    for (_, unit), members in rows.items():
        yield Suite(suite.name, unit, suite.notes, members), unit, "row: exponent"


def _build_lines(suite: Suite, places: list[int], key: str) -> Iterator[Line]:
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
