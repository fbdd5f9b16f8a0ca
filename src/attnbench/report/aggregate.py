"""From records and table.yaml to a table, before any format: a pure function."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.record import Plan, Record, RecordError
from attnbench.report.cells import Cell, build_cell, is_number, lookup
from attnbench.report.figures import Figure
from attnbench.report.keys import Best, RowKey
from attnbench.report.kinds import build_figure
from attnbench.report.layout import LAYOUT, Column, Layout, Paper, agrees
from attnbench.report.runs import ABSENT, Run, gather, select, sort_into_rows

_RATE = "_per_sec_global"  # how a record's key for throughput ends, behind the unit


@dataclass(frozen=True)
class Row:
    """One setting of everything but the seed."""

    labels: tuple[str, ...]  # a value for each row key
    cells: tuple[Cell, ...]  # one for each column
    published: tuple[tuple[tuple[str, float], ...], ...]  # for each column: source's mark and number


@dataclass(frozen=True)
class Table:
    """What is shown, before any format."""

    title: str
    keys: tuple[RowKey, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]  # what a reader must know
    marks: tuple[tuple[str, str], ...]  # a source's mark, and its citation and protocol
    figures: tuple[Figure, ...] = ()

    def has_published(self, index: int) -> bool:
        """Whether column `index` has a published number in some row."""
        return any(row.published[index] for row in self.rows)


def build_table(
    records: Sequence[Record],
    plan: Plan | None,
    layout: Layout,
    paper: Paper,
    *,
    title: str,
    where: str = LAYOUT,
    problems: Sequence[str] = (),
    folder: Path | None = None,
) -> Table:
    """The table of `records`, and of what `plan` has beyond them; `where` names the layout in errors.

    Raises:
        RecordError: the layout asks for keys that no run has, for a figure that its runs do not fit, or leaves no run.
    """
    if not (runs := select(gather(records, plan), layout, where)):
        raise RecordError(f"{where}: no run agrees with where: {layout.where}")
    columns = layout.columns or default_columns(runs)
    keys, groups = sort_into_rows(runs, layout.rows, columns)
    marks = _marks(groups, columns, paper)
    rows = [
        Row(
            labels=tuple(key.text(group[0].config.get(key.key, ABSENT)) for key in keys),
            cells=tuple(build_cell(group, column) for column in columns),
            published=tuple(
                tuple((marks[source], value) for source, value in paper.beside(group[0].config, column.key))
                for column in columns
            ),
        )
        for group in groups
    ]
    rows = _mark_best(rows, columns)
    cited = ((mark, _cited(paper, source)) for source, mark in marks.items())
    notes = [*_notes(rows, runs, columns), *problems]
    figures = tuple(
        build_figure([run for run in runs if agrees(run.config, figure.where)], figure, where, folder)
        for figure in layout.figures
    )
    return Table(layout.title or title, tuple(keys), tuple(columns), tuple(rows), tuple(notes), tuple(cited), figures)


def default_columns(runs: Sequence[Run]) -> list[Column]:
    """Every number of the test set, parameters and throughput, as far as finished runs have them."""
    finished = [run.record for run in runs if run.record is not None and run.finished]
    scores = {key: None for record in finished for key, value in record.metrics["test"].items() if is_number(value)}
    rates = {key: None for record in finished for key in record.performance if key.endswith(_RATE)}
    return [
        *(Column(f"metrics.test.{key}") for key in scores),
        Column("parameters.total", label="parameters"),
        *(
            Column(f"performance.{key}", label=key.removesuffix(_RATE).replace("_", " "), unit="/s", digits=0)
            for key in rates
        ),
    ]


def _marks(groups: Sequence[Sequence[Run]], columns: Sequence[Column], paper: Paper) -> dict[str, str]:
    """A letter for each source that the table quotes, in the order of paper.yaml."""
    quoted = {
        source for group in groups for column in columns for source, _ in paper.beside(group[0].config, column.key)
    }
    return {source: chr(ord("a") + i) for i, source in enumerate(s for s in paper.sources if s in quoted)}


def _cited(paper: Paper, source: str) -> str:
    return f"{paper.sources[source].citation} Not the same experiment: {paper.sources[source].protocol}"


def _mark_best(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """Mark the best mean of a column, and those that print the same; where all do, none is best."""
    found = list(rows)
    for index, column in enumerate(columns):
        means = {row.cells[index].value: row.cells[index].summary for row in rows}
        numbers = {value: summary.mean for value, summary in means.items() if summary is not None}
        if column.best is None or len(numbers) < 2:
            continue
        choose = max if column.best is Best.max else min
        best = choose(numbers, key=lambda value: numbers[value])
        for at, row in enumerate(found):
            cell = row.cells[index]
            if cell.summary is not None and cell.value == best:
                cells = (*row.cells[:index], dataclasses.replace(cell, best=True), *row.cells[index + 1 :])
                found[at] = dataclasses.replace(row, cells=cells)
    return found


def _notes(rows: Sequence[Row], runs: Sequence[Run], columns: Sequence[Column]) -> Iterator[str]:
    cells = [cell for row in rows for cell in row.cells]
    if any("±" in cell.spread for cell in cells):
        yield "Mean ± sample standard deviation over seeds."
    if any(cell.best for cell in cells):
        yield "Bold: the best mean of its column; no test says here that the difference is more than chance."
    finished = [run.record for run in runs if run.record is not None and run.finished]
    states = Counter(run.state for run in runs if not run.finished)
    if states:
        said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        yield f"{len(runs) - len(finished)} of {len(runs)} runs do not count: {said}."
    for column in columns:
        if any(column.flag in cell.spread for row in rows for cell in row.cells) and column.above is not None:
            yield f"{column.flag.capitalize()}: {column.key} is above {column.above}."
        signatures = {lookup(record, f"{column.key}_signature") for record in finished} - {None}
        if signatures:
            yield f"{column.heading}: sacreBLEU {', '.join(sorted(map(str, signatures)))}."
    commits = {(record.provenance.get("git") or {}).get("commit", "unknown") for record in finished}
    if len(commits) > 1:
        yield f"The runs come from {len(commits)} commits of the code: {', '.join(sorted(commits))}."
    counts = Counter(note for record in finished for note in dict.fromkeys(record.notes))
    for note, count in sorted(counts.items()):
        yield note if count == len(finished) else f"{note} ({count} of {len(finished)} runs)"
