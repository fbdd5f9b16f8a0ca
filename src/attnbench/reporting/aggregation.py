"""From records and table.yaml to a table, before any format: a pure function."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.records.record import Plan, Record, RecordError
from attnbench.reporting.baselines import (
    best_of,
    find_baselines,
    no_baseline,
    order_by_group,
    told_apart,
    what_seeds_can_tell,
)
from attnbench.reporting.cells import Cell, build_cell, is_number, lookup
from attnbench.reporting.figure_registry import build_figure
from attnbench.reporting.figures import Figure
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import LAYOUT, Bold, Column, Layout, Paper, agrees
from attnbench.reporting.runs import ABSENT, Run, gather, select, sort_into_rows

_RATE = "_per_sec_global"  # how a record's key for throughput ends, behind the unit


@dataclass(frozen=True)
class Quoted:
    """A published number beside ours."""

    mark: str  # of its source
    value: float
    difference: float | None = None  # ours less it, in the record's unit; None where that says nothing
    change: float | None = None  # it less what the same source has for its own baseline


@dataclass(frozen=True)
class Row:
    """One setting of everything but the seed."""

    labels: tuple[str, ...]  # a value for each row key
    cells: tuple[Cell, ...]  # one for each column
    published: tuple[tuple[Quoted, ...], ...]  # for each column
    group: str = ""  # label of the group it stands in
    changes: tuple[float | None, ...] = ()  # for each column: the mean less the baseline's; empty: not asked for
    repeats: tuple[bool, ...] = ()  # for each label: as in the baseline, and not printed again; empty: none

    @property
    def shown(self) -> tuple[str, ...]:
        """The labels that are printed."""
        if not self.repeats:
            return self.labels
        return tuple("" if as_ever else label for label, as_ever in zip(self.labels, self.repeats, strict=True))

    run_ids: tuple[str, ...] = ()  # of every run that has this setting, finished or not


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

    def has_difference(self, index: int) -> bool:
        """Whether ours less the published number says something in some row of column `index`."""
        return any(quoted.difference is not None for row in self.rows for quoted in row.published[index])


@dataclass(frozen=True)
class Sorted:
    """Runs as the rows of a table, and which row each is compared with."""

    runs: list[Run]
    keys: list[RowKey]
    columns: list[Column]
    rows: list[list[Run]]
    labels: list[tuple[str, ...]]  # of each row what its value of each key is called
    repeats: list[tuple[bool, ...]]  # of each row, whether that is the baseline's and stands in a group
    groups: list[str]  # of each row the label of its group, or nothing
    baselines: list[int | None]  # of each row the place of its baseline


def sort_runs(records: Sequence[Record], plan: Plan | None, layout: Layout, where: str) -> Sorted:
    """The rows that `layout` makes of records and plan; raises as `build_table`."""
    runs = select(gather(records, plan), layout, where)
    if not runs:
        raise RecordError(f"{where}: no run agrees with where: {layout.where}")
    columns = list(layout.columns or default_columns(runs))
    keys, rows = sort_into_rows(runs, layout.rows, columns)
    shown = [
        *(key.key for key in keys),
        *(c.key.removeprefix("config.") for c in columns if c.key.startswith("config.")),
    ]
    baselines = find_baselines(rows, shown, layout.baseline)
    groups = [""] * len(rows)
    if layout.groups:
        order, groups = (list(part) for part in zip(*order_by_group(rows, shown, baselines, layout), strict=True))
        rows = [rows[place] for place in order]
        baselines = find_baselines(rows, shown, layout.baseline)
    values = [[row[0].config.get(key.key, ABSENT) for key in keys] for row in rows]
    labels = [tuple(key.text(value) for key, value in zip(keys, row, strict=True)) for row in values]
    repeats: list[tuple[bool, ...]] = [()] * len(rows)
    if layout.groups:
        repeats = [
            tuple(base is not None and ours == theirs for ours, theirs in zip(row, values[base or 0], strict=True))
            for row, base in zip(values, baselines, strict=True)
        ]
    return Sorted(runs, keys, columns, rows, labels, repeats, groups, baselines)


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

    `folder` holds the runs' folders, for figures that are made of more than records.

    Raises:
        RecordError: the layout asks for keys or a baseline that no run has, for a figure that its runs do not fit, or
            leaves no run.
    """
    made = sort_runs(records, plan, layout, where)
    marks = _marks(made.rows, made.columns, paper)
    rows = _fill(made, layout, paper, marks)
    figures = tuple(
        build_figure([run for run in made.runs if agrees(run.config, figure.where)], figure, where, folder)
        for figure in layout.figures
    )
    return Table(
        title=layout.title or title,
        keys=tuple(made.keys),
        columns=tuple(made.columns),
        rows=tuple(rows),
        notes=(*_notes(rows, made, layout), *problems),
        marks=tuple((mark, _cited(paper, source)) for source, mark in marks.items()),
        figures=figures,
    )


def _fill(made: Sorted, layout: Layout, paper: Paper, marks: Mapping[str, str]) -> list[Row]:
    """Every row with its cells, and what is published beside them."""
    cells = _mark(made, [[build_cell(row, column) for column in made.columns] for row in made.rows], layout)
    return [
        Row(
            labels=made.labels[place],
            cells=tuple(cells[place]),
            published=tuple(_quote(made, cells, paper, marks, place, index) for index in range(len(made.columns))),
            group=made.groups[place],
            changes=_changes(made, cells, place),
            repeats=made.repeats[place],
            run_ids=tuple(run.run_id for run in made.rows[place]),
        )
        for place in range(len(made.rows))
    ]


def default_columns(runs: Sequence[Run]) -> list[Column]:
    """Every number of the test set, parameters and throughput, as far as finished runs have them."""
    finished = [run.record for run in runs if run.record is not None and run.finished]
    scores = {
        key: None for record in finished for key, value in record.metrics.get("test", {}).items() if is_number(value)
    }
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
    said = paper.sources[source]
    return f"{said.citation} Not the same {'experiment' if said.comparable else 'data'}: {said.protocol}"


def _quote(
    made: Sorted, cells: Sequence[Sequence[Cell]], paper: Paper, marks: Mapping[str, str], place: int, index: int
) -> tuple[Quoted, ...]:
    """The published numbers of one cell, and how far ours and their own baselines are from them."""
    key, base = made.columns[index].key, made.baselines[place]
    theirs = dict(paper.beside(made.rows[base][0].config, key)) if base is not None else {}
    ours = cells[place][index].summary
    return tuple(
        Quoted(
            marks[source],
            value,
            ours.mean - value if ours is not None and paper.sources[source].comparable else None,
            value - theirs[source] if source in theirs else None,
        )
        for source, value in paper.beside(made.rows[place][0].config, key)
    )


def _changes(made: Sorted, cells: Sequence[Sequence[Cell]], place: int) -> tuple[float | None, ...]:
    """How far the means of a row are from its baseline's, in columns that show it."""
    found: list[float | None] = []
    for index, column in enumerate(made.columns):
        base = made.baselines[place] if column.change else None
        ours, theirs = cells[place][index].summary, None if base is None else cells[base][index].summary
        found.append(None if ours is None or theirs is None else ours.mean - theirs.mean)
    return tuple(found)


def _mark(made: Sorted, cells: Sequence[Sequence[Cell]], layout: Layout) -> list[list[Cell]]:
    """Mark the best of each column, with those that print the same, and what differs from its baseline.

    Where all would be bold, none is.
    """
    found = [list(row) for row in cells]
    for index, column in enumerate(made.columns):
        if column.best is None:
            continue
        told = told_apart(made.rows, made.baselines, column) if layout.baseline else set()
        means = {place: s.mean for place, row in enumerate(cells) if (s := row[index].summary) is not None}
        printed = {place: cells[place][index].value for place in means}
        best: set[str] = set()
        if len(set(printed.values())) > 1:
            chosen = best_of(made.rows, means, column, tested=layout.bold is Bold.not_worse)
            best = {printed[place] for place in chosen} if len(chosen) < len(means) else set()
        for place, row in enumerate(found):
            bold = place in printed and printed[place] in best
            row[index] = dataclasses.replace(row[index], best=bold, differs=place in told)
    return found


def _notes(rows: Sequence[Row], made: Sorted, layout: Layout) -> Iterator[str]:
    """Write what a reader of the table must know."""
    finished = [run.record for run in made.runs if run.record is not None and run.finished]
    yield from _notes_of_cells(rows, made, layout)
    yield from _notes_of_baseline(made, layout)
    states = Counter(run.state for run in made.runs if not run.finished)
    if states:
        said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        yield f"{len(made.runs) - len(finished)} of {len(made.runs)} runs do not count: {said}."
    for column in made.columns:
        yield from _notes_of_column(column, rows, finished)
    commits = {commit for record in finished for commit in _commits(record)}
    if len(commits) > 1:
        yield f"The runs come from {len(commits)} commits of the code: {', '.join(sorted(commits))}."
    counts = Counter(note for record in finished for note in dict.fromkeys(record.notes))
    for note, count in sorted(counts.items()):
        yield note if count == len(finished) else f"{note} ({count} of {len(finished)} runs)"


def _notes_of_cells(rows: Sequence[Row], made: Sorted, layout: Layout) -> Iterator[str]:
    """Write what spreads, brackets and bold print mean, as far as there are any."""
    cells = [cell for row in rows for cell in row.cells]
    if any("±" in cell.spread for cell in cells):
        yield "Mean ± sample standard deviation over seeds."
    if any(cell.summary is not None and cell.summary.interval is not None for cell in cells):
        yield "In brackets: 95 % confidence interval of the mean over seeds (Student's t), from three seeds on."
    if layout.bold is Bold.not_worse and any(column.best for column in made.columns):
        yield (
            "Bold: the best mean of its column, and those that an exact paired permutation test over seeds does not"
            " tell from it (Holm's correction; none, where that would be all)."
        )
    elif any(cell.best for cell in cells):
        yield "Bold: the best mean of its column; no test says here that the difference is more than chance."


def _notes_of_baseline(made: Sorted, layout: Layout) -> Iterator[str]:
    """Write what is compared with the baseline, and which differences the seeds can show."""
    compared = any(base is not None for base in made.baselines)
    if layout.baseline and not compared:
        yield f"Nothing is compared: {no_baseline(layout.baseline)}, the baseline, beside others."
    judged = [column for column in made.columns if column.best is not None]
    if compared and judged:
        yield what_seeds_can_tell(made.rows, made.baselines, judged)
    if layout.groups and compared:
        yield "An empty place is as in the baseline, which stands first."


def _notes_of_column(column: Column, rows: Sequence[Row], finished: Sequence[Record]) -> Iterator[str]:
    """Write what a column's flag means, and how its scores were computed."""
    if any(column.flag in cell.spread for row in rows for cell in row.cells) and column.above is not None:
        yield f"{column.flag.capitalize()}: {column.key} is above {column.above}."
    found = [lookup(record, f"{column.key}_signature") for record in finished]
    signatures = {signature for signature in found if isinstance(signature, str)}
    if signatures:
        yield f"{column.heading}: sacreBLEU {', '.join(sorted(signatures))}."


def _commits(record: Record) -> set[str]:
    """Return the commits of the code that the attempts of a run were made with; `unknown` where there is none."""
    gits = [session.get("git") for session in record.all_sessions]
    return {str(git.get("commit", "unknown")) if isinstance(git, Mapping) else "unknown" for git in gits}
