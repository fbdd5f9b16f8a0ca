"""Aggregate records into a table: values, spreads, tests and notes, independent of the output format."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnbench.metrics.statistics import ALPHA
from attnbench.records.record import Plan, Record, RecordError
from attnbench.reporting.baselines import (
    describe_missing_baseline,
    find_baselines,
    sort_by_group,
)
from attnbench.reporting.cells import Cell, build_cell, get_record_value, is_number
from attnbench.reporting.figure_registry import build_figure
from attnbench.reporting.figures import Figure
from attnbench.reporting.keys import Best, RowKey
from attnbench.reporting.layout import LAYOUT_FILE, Bold, Column, Layout, Paper, config_matches
from attnbench.reporting.runs import ABSENT, Run, collect_runs, group_into_rows, select_runs
from attnbench.reporting.tuning import (
    build_tuned_keys,
    build_tuning_figure,
    exclude_tuning_runs,
    format_tuned_label,
    write_tuning_notes,
)
from attnbench.reporting.verdicts import compare_rows, find_bold_rows, find_significant_rows, write_verdicts

_THROUGHPUT_SUFFIX = "_per_sec_global"  # how a record's key for throughput ends, behind the unit


@dataclass(frozen=True)
class PublishedValue:
    """Published number that stands beside ours."""

    source_mark: str  # of its source
    value: float
    difference: float | None = None  # our mean minus this value, in the record's unit; None: not comparable
    change: float | None = None  # this value minus the source's value for its own baseline


@dataclass(frozen=True)
class Row:
    """Table row: one setting of all config keys except the seed."""

    labels: tuple[str, ...]  # a value for each row key
    cells: tuple[Cell, ...]  # one for each column
    published: tuple[tuple[PublishedValue, ...], ...]  # for each column
    group: str = ""  # label of the group it stands in
    changes: tuple[float | None, ...] = ()  # for each column: the mean less the baseline's; empty: not shown
    equals_baseline: tuple[bool, ...] = ()  # for each label: equal to the baseline's, and not printed

    @property
    def printed_labels(self) -> tuple[str, ...]:
        """Labels that are printed; labels that equal the baseline's are empty."""
        if not self.equals_baseline:
            return self.labels
        return tuple("" if as_ever else label for label, as_ever in zip(self.labels, self.equals_baseline, strict=True))

    run_ids: tuple[str, ...] = ()  # of every run that has this setting, finished or not


@dataclass(frozen=True)
class Table:
    """Content of a table, independent of the output format."""

    title: str
    keys: tuple[RowKey, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]  # what a reader must know
    marks: tuple[tuple[str, str], ...]  # a source's mark, and its citation and protocol
    figures: tuple[Figure, ...] = ()

    def has_published(self, index: int) -> bool:
        """Return True if some row has a published number in column `index`."""
        return any(row.published[index] for row in self.rows)

    def has_difference(self, index: int) -> bool:
        """Return True if some row of column `index` has a difference between our number and a published one."""
        return any(quoted.difference is not None for row in self.rows for quoted in row.published[index])


@dataclass(frozen=True)
class GroupedRuns:
    """Runs grouped into rows, and the baseline of each row."""

    runs: list[Run]
    keys: list[RowKey]
    columns: list[Column]
    rows: list[list[Run]]
    labels: list[tuple[str, ...]]  # for each row, the label of its value of each key
    equals_baseline: list[tuple[bool, ...]]  # for each row and key: equal to the baseline's, in a group
    groups: list[str]  # for each row, the label of its group, or empty
    baselines: list[int | None]  # for each row, the index of its baseline
    plan: Plan | None = None  # plan of the sweep

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds after which the sweep has looked; empty: it did not choose its seeds."""
        return () if self.plan is None or self.plan.sequential is None else tuple(self.plan.sequential.looks)


def group_runs(records: Sequence[Record], plan: Plan | None, layout: Layout, layout_path: str) -> GroupedRuns:
    """Group the runs of records and plan into the rows of `layout`.

    Args:
        records: records of runs.
        plan: plan of the sweep; its runs without a record are shown as `not run`.
        layout: content of table.yaml.
        layout_path: path of table.yaml, for error messages.

    Raises:
        RecordError: see `build_table`.
    """
    runs = exclude_tuning_runs(select_runs(collect_runs(records, plan), layout, layout_path), plan)
    if not runs:
        raise RecordError(f"{layout_path}: no run matches `where`: {layout.where}")
    columns = list(layout.columns or build_default_columns(runs))
    tuned = build_tuned_keys(plan, layout.rows)
    keys, rows = group_into_rows(runs, layout.rows, columns)
    keys = [key for key in keys if key.key not in {one.key for one in tuned}]
    shown = [
        *(key.key for key in keys),
        *(c.key.removeprefix("config.") for c in columns if c.key.startswith("config.")),
    ]
    baselines = find_baselines(rows, shown, layout.baseline)
    groups = [""] * len(rows)
    if layout.groups:
        order, groups = (list(part) for part in zip(*sort_by_group(rows, shown, baselines, layout), strict=True))
        rows = [rows[place] for place in order]
        baselines = find_baselines(rows, shown, layout.baseline)
    keys = [*keys, *tuned]
    values = [[row[0].config.get(key.key, ABSENT) for key in keys] for row in rows]
    labels = [
        tuple(
            format_tuned_label(plan, row[0], key, key.format_value(value)) for key, value in zip(keys, own, strict=True)
        )
        for row, own in zip(rows, values, strict=True)
    ]
    repeats: list[tuple[bool, ...]] = [()] * len(rows)
    if layout.groups:
        repeats = [
            tuple(base is not None and ours == theirs for ours, theirs in zip(row, values[base or 0], strict=True))
            for row, base in zip(values, baselines, strict=True)
        ]
    return GroupedRuns(runs, keys, columns, rows, labels, repeats, groups, baselines, plan)


def build_table(
    records: Sequence[Record],
    plan: Plan | None,
    layout: Layout,
    paper: Paper,
    *,
    title: str,
    layout_path: str = LAYOUT_FILE,
    problems: Sequence[str] = (),
    folder: Path | None = None,
) -> Table:
    """Build the table of `records` and of the runs that are planned but have no record.

    Args:
        records: records of runs.
        plan: plan of the sweep, or None.
        layout: content of table.yaml.
        paper: published numbers.
        title: title if the layout has none.
        layout_path: path of table.yaml, for error messages.
        problems: sentences about unusable records; they become notes.
        folder: folder with the runs' folders; needed for figures that use more than records.

    Raises:
        RecordError: the layout has a key or a baseline that no run has, or a figure that does not fit its runs; or no
            run is left.
    """
    made = group_runs(records, plan, layout, layout_path)
    marks = _assign_source_marks(made.rows, made.columns, paper)
    rows = _build_rows(made, layout, paper, marks)
    figures = tuple(
        build_figure(
            [run for run in made.runs if config_matches(run.config, figure.where)], figure, layout_path, folder
        )
        for figure in layout.figures
    )
    untuned = made.keys[: len(made.keys) - len(build_tuned_keys(plan, layout.rows))]
    all_runs = select_runs(collect_runs(records, plan), layout, layout_path)
    figures = (*figures, *build_tuning_figure(all_runs, plan, untuned, layout_path, folder))
    return Table(
        title=layout.title or title,
        keys=tuple(made.keys),
        columns=tuple(made.columns),
        rows=tuple(rows),
        notes=(*_write_notes(rows, made, layout), *problems),
        marks=tuple((mark, _format_citation(paper, source)) for source, mark in marks.items()),
        figures=figures,
    )


def _build_rows(grouped: GroupedRuns, layout: Layout, paper: Paper, marks: Mapping[str, str]) -> list[Row]:
    """Build all rows: cells, published numbers and changes."""
    cells = _mark_cells(
        grouped, [[build_cell(row, column) for column in grouped.columns] for row in grouped.rows], layout
    )
    return [
        Row(
            labels=grouped.labels[place],
            cells=tuple(cells[place]),
            published=tuple(
                _find_published_values(grouped, cells, paper, marks, place, index)
                for index in range(len(grouped.columns))
            ),
            group=grouped.groups[place],
            changes=_compute_changes(grouped, cells, place),
            equals_baseline=grouped.equals_baseline[place],
            run_ids=tuple(run.run_id for run in grouped.rows[place]),
        )
        for place in range(len(grouped.rows))
    ]


def build_default_columns(runs: Sequence[Run]) -> list[Column]:
    """Return the columns of a table without layout: test metrics, number of parameters, throughput.

    The metric that chooses the weights comes first.
    """
    finished = [run.record for run in runs if run.record is not None and run.is_finished]
    scores = {
        key: None for record in finished for key, value in record.metrics.get("test", {}).items() if is_number(value)
    }
    monitors = {str(record.config.get("task", {}).get("monitor")) for record in finished}

    def is_secondary(key: str) -> bool:
        return key not in monitors

    rates = {key: None for record in finished for key in record.performance if key.endswith(_THROUGHPUT_SUFFIX)}
    return [
        *(Column(f"metrics.test.{key}", best=_find_direction(key)) for key in sorted(scores, key=is_secondary)),
        Column("parameters.total", label="parameters"),
        *(
            Column(
                f"performance.{key}", label=key.removesuffix(_THROUGHPUT_SUFFIX).replace("_", " "), unit="/s", digits=0
            )
            for key in rates
        ),
    ]


def _find_direction(metric: str) -> Best | None:
    """Return the direction in which a metric is better; None if it is unknown."""
    if metric.startswith(("bleu", "chrf", "accuracy")):
        return Best.max
    return Best.min if metric in ("loss", "perplexity", "calibration_error") else None


def _assign_source_marks(groups: Sequence[Sequence[Run]], columns: Sequence[Column], paper: Paper) -> dict[str, str]:
    """Assign a letter to each source that the table cites, in the order of paper.yaml."""
    quoted = {
        source
        for group in groups
        for column in columns
        for source, _ in paper.get_published(group[0].config, column.key)
    }
    return {source: chr(ord("a") + i) for i, source in enumerate(s for s in paper.sources if s in quoted)}


def _format_citation(paper: Paper, source: str) -> str:
    publication = paper.sources[source]
    difference = "experiment" if publication.comparable else "data"
    return f"{publication.citation} Not the same {difference}: {publication.protocol}"


def _find_published_values(
    grouped: GroupedRuns,
    cells: Sequence[Sequence[Cell]],
    paper: Paper,
    marks: Mapping[str, str],
    row_index: int,
    column_index: int,
) -> tuple[PublishedValue, ...]:
    """Find the published numbers of one cell, with the difference to our mean and to the source's own baseline."""
    key, base = grouped.columns[column_index].key, grouped.baselines[row_index]
    theirs = dict(paper.get_published(grouped.rows[base][0].config, key)) if base is not None else {}
    ours = cells[row_index][column_index].summary
    return tuple(
        PublishedValue(
            marks[source],
            value,
            ours.mean - value if ours is not None and paper.sources[source].comparable else None,
            value - theirs[source] if source in theirs else None,
        )
        for source, value in paper.get_published(grouped.rows[row_index][0].config, key)
    )


def _compute_changes(grouped: GroupedRuns, cells: Sequence[Sequence[Cell]], row_index: int) -> tuple[float | None, ...]:
    """Compute the difference between each mean of a row and its baseline's, for columns that show it."""
    found: list[float | None] = []
    for index, column in enumerate(grouped.columns):
        base = grouped.baselines[row_index] if column.change else None
        ours, theirs = cells[row_index][index].summary, None if base is None else cells[base][index].summary
        found.append(None if ours is None or theirs is None else ours.mean - theirs.mean)
    return tuple(found)


def _mark_cells(grouped: GroupedRuns, cells: Sequence[Sequence[Cell]], layout: Layout) -> list[list[Cell]]:
    """Mark the best cells of each column, and cells that differ significantly from the baseline.

    Cells that print the same value as a best one are bold too. If all cells of a column would be bold, none is.
    """
    found = [list(row) for row in cells]
    for index, column in enumerate(grouped.columns):
        if column.best is None:
            continue
        significant = (
            find_significant_rows(grouped.rows, grouped.baselines, column, grouped.looks) if layout.baseline else set()
        )
        means = {place: s.mean for place, row in enumerate(cells) if (s := row[index].summary) is not None}
        printed = {place: cells[place][index].value for place in means}
        best: set[str] = set()
        if len(set(printed.values())) > 1:
            chosen = find_bold_rows(grouped.rows, means, column, include_not_worse=layout.bold is Bold.not_worse)
            best = {printed[place] for place in chosen} if len(chosen) < len(means) else set()
        for place, row in enumerate(found):
            bold = place in printed and printed[place] in best
            row[index] = dataclasses.replace(row[index], best=bold, differs=place in significant)
    return found


def _write_notes(rows: Sequence[Row], grouped: GroupedRuns, layout: Layout) -> Iterator[str]:
    """Yield the notes below the table."""
    finished = [run.record for run in grouped.runs if run.record is not None and run.is_finished]
    yield from _write_baseline_notes(rows, grouped, layout)
    yield from write_tuning_notes(grouped.plan)
    yield from _write_cell_notes(rows, grouped, layout)
    for skipped in grouped.plan.skipped if grouped.plan is not None else ():
        yield f"Left out: {' '.join(skipped.overrides)}: {skipped.reason}"
    states = Counter(run.state for run in grouped.runs if not run.is_finished)
    if states:
        listed = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        yield f"{len(grouped.runs) - len(finished)} of {len(grouped.runs)} runs are not included: {listed}."
    for column in grouped.columns:
        yield from _write_column_notes(column, rows, finished)
    commits = {commit for record in finished for commit in _collect_commits(record)}
    if len(commits) > 1:
        yield f"The runs come from {len(commits)} commits of the code: {', '.join(sorted(commits))}."
    counts = Counter(note for record in finished for note in dict.fromkeys(record.notes))
    for note, count in sorted(counts.items()):
        yield note if count == len(finished) else f"{note} ({count} of {len(finished)} runs)"


def _write_cell_notes(rows: Sequence[Row], grouped: GroupedRuns, layout: Layout) -> Iterator[str]:
    """Yield the notes that explain spreads, brackets and bold print."""
    cells = [cell for row in rows for cell in row.cells]
    if any("±" in cell.spread for cell in cells):
        yield "Mean ± sample standard deviation over seeds."
    if any(cell.summary is not None and cell.summary.interval is not None for cell in cells):
        yield "In brackets: 95 % confidence interval of the mean over seeds (Student's t), from three seeds on."
    if layout.bold is Bold.not_worse and any(column.best for column in grouped.columns):
        yield (
            "Bold: the best mean of its column, and those that a paired t-test over seeds does not tell from it"
            " (Holm's correction; none, where that would be all)."
        )
    elif any(cell.best for cell in cells):
        yield "Bold: the best mean of its column; no test says here that the difference is more than chance."


def _write_baseline_notes(rows: Sequence[Row], grouped: GroupedRuns, layout: Layout) -> Iterator[str]:
    """Yield the notes about the baseline and the power of the tests."""
    compared = any(base is not None for base in grouped.baselines)
    if layout.baseline and not compared:
        yield f"Nothing is compared: {describe_missing_baseline(layout.baseline)}, the baseline, beside others."
    judged = [column for column in grouped.columns if column.best is not None]
    if compared and judged:
        column = next((column for column in judged if column.key.startswith("metrics.test")), judged[0])
        found = compare_rows(grouped.rows, grouped.baselines, column, grouped.looks)
        names = [_name_pair(grouped, one.row_index, one.baseline_index) for one in found]
        yield from write_verdicts(found, names, column, grouped.looks)
    if any(cell.differs for row in rows for cell in row.cells):
        yield f"*: differs from the baseline (paired t-test over seeds, Holm's correction in a column; p < {ALPHA})."
    if layout.groups and compared:
        yield "Empty cell: the same value as in the baseline (first row)."


def _name_pair(grouped: GroupedRuns, ours: int, theirs: int) -> tuple[str, str]:
    """Name two rows by the labels in which they differ; labels that both have, and other rows have not, follow.

    Tuned values are left out.
    """
    tuned = set() if grouped.plan is None or grouped.plan.tuning is None else set(grouped.plan.tuning.params)
    names: tuple[list[str], list[str]] = ([], [])
    shared = []
    for index, key in enumerate(grouped.keys):
        labels = {labels[index] for labels in grouped.labels}
        if key.key in tuned or len(labels) < 2:
            continue
        mine, other = (_name_label(key, grouped.labels[place][index]) for place in (ours, theirs))
        if mine == other:
            shared.append(mine)
        else:
            names[0].append(mine)
            names[1].append(other)
    context = f" ({', '.join(shared)})" if shared else ""
    return " ".join(names[0]) or "the row", (" ".join(names[1]) or "the baseline") + context


def _name_label(key: RowKey, label: str) -> str:
    """Return the label, with its key if the label is no word, as in depth=4 or compile=true."""
    is_word = label[:1].isalpha() and label not in ("true", "false", "null")
    return label if is_word else f"{key.label or key.key.rpartition('.')[2]}={label}"


def _write_column_notes(column: Column, rows: Sequence[Row], finished: Sequence[Record]) -> Iterator[str]:
    """Yield the notes about a column's flag and its sacreBLEU signatures."""
    if any(column.flag in cell.spread for row in rows for cell in row.cells) and column.above is not None:
        yield f"{column.flag.capitalize()}: {column.key} is above {column.above}."
    found = [get_record_value(record, f"{column.key}_signature") for record in finished]
    signatures = {signature for signature in found if isinstance(signature, str)}
    if signatures:
        yield f"{column.heading}: sacreBLEU {', '.join(sorted(signatures))}."


def _collect_commits(record: Record) -> set[str]:
    """Return the commits of the code that a run's attempts used; `unknown` for an attempt without one."""
    gits = [session.get("git") for session in record.all_sessions]
    return {str(git.get("commit", "unknown")) if isinstance(git, Mapping) else "unknown" for git in gits}
