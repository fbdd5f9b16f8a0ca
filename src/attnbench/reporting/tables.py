"""From a folder of records to table.md, .csv, .tex, .html, .json and its figures; the same records, the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attnbench.records.record import Plan, Record, RecordError
from attnbench.reporting.aggregation import Table, build_table, sort_runs
from attnbench.reporting.comparisons import compare
from attnbench.reporting.effects import effects
from attnbench.reporting.figure_registry import draw
from attnbench.reporting.formats import FORMATS, markdown
from attnbench.reporting.layout import LAYOUT, Layout, Paper, read_layout
from attnbench.reporting.runs import load_records, read_plan_of


@dataclass(frozen=True)
class Source:
    """What lies in a sweep's folder, and how it is to be laid out."""

    folder: Path
    records: list[Record]
    plan: Plan | None
    layout: Layout
    paper: Paper
    where: str  # the layout's file, for errors
    problems: list[str]  # records that could not be taken, and why

    def table(self) -> Table:
        """The sweep's table; raises as `build_table`."""
        return build_table(
            self.records,
            self.plan,
            self.layout,
            self.paper,
            title=self.folder.name,
            where=self.where,
            problems=self.problems,
            folder=self.folder,
        )

    def comparisons(self) -> Table:
        """Each row against the layout's baseline; raises as `compare`."""
        made = sort_runs(self.records, self.plan, self.layout, self.where)
        return compare(made, self.layout, self.folder, self.where, self.layout.title or self.folder.name)

    def effects(self) -> Table:
        """What each row key does; raises as `effects`."""
        made = sort_runs(self.records, self.plan, self.layout, self.where)
        return effects(made, self.where, self.layout.title or self.folder.name)


def read_source(folder: Path, experiments: Path, name: str | None = None) -> Source:
    """The records below `folder`, and the layout in experiments/<name>/table.yaml where there is one.

    `name` is by default what the runs' config says (sweep.table), else the folder's name.

    Raises:
        RecordError: no records and no plan, no layout of the `name` asked for, or a layout or plan that cannot be
            taken.
    """
    records, problems = load_records(folder)
    plan = read_plan_of(folder)
    if not records and not plan:
        others = [path.name for path in folder.parent.glob("*") if path.is_dir() and path != folder]
        known = [f"{folder.parent} has {', '.join(sorted(others))}"] if others else []
        raise RecordError("; ".join([f"{folder}: no records of runs here", *problems, *known]))
    missing = []
    if name is None:
        said = [*(run.config for run in (plan.runs if plan else [])), *(record.config for record in records)]
        asked = said[0]["sweep"].get("table")
        name = asked or folder.name
        if asked and not (experiments / asked / LAYOUT).is_file():  # the table of a folder from elsewhere
            missing = [f"sweep.table={asked}: no {asked}/{LAYOUT} in {experiments.name}: the default layout stands in"]
    else:
        check_layout(experiments, name)
    layout, paper = read_layout(experiments / name)
    return Source(folder, records, plan, layout, paper, str(experiments / name / LAYOUT), [*missing, *problems])


def check_layout(experiments: Path, name: str) -> None:
    """Check that a layout that is asked for by name is there.

    Raises:
        RecordError: it is not.
    """
    if not (experiments / name / LAYOUT).is_file():
        raise RecordError(f"{experiments / name / LAYOUT}: no such layout; there are {_layouts(experiments)}")


def _layouts(experiments: Path) -> str:
    return ", ".join(sorted(path.parent.name for path in experiments.glob(f"*/{LAYOUT}"))) or "none"


def load_table(folder: Path, experiments: Path, name: str | None = None) -> Table:
    """The table of the records below `folder`; raises as `read_source` and `build_table`."""
    return read_source(folder, experiments, name).table()


def save(table: Table, folder: Path, stem: str = "table") -> list[str]:
    """Write the table in every format and draw its figures; of each figure a line: its files, or why there are none."""
    for suffix, render in FORMATS.values():
        (folder / f"{stem}{suffix}").write_text(render(table), encoding="utf-8")
    told = []
    for figure in table.figures:
        paths = draw(figure, folder)
        told.append(f"figure {figure.layout.name}: {' '.join(map(str, paths)) or ' '.join(figure.notes)}")
    return told


def write_tables(folder: Path, experiments: Path, name: str | None = None) -> str:
    """Write the table of `folder` and its figures there; the Markdown. Raises as `load_table`."""
    table = load_table(folder, experiments, name)
    save(table, folder)
    return markdown(table)
