"""From a folder of records to table.md, .csv and .tex and its figures; the same records give the same bytes."""

from __future__ import annotations

from pathlib import Path

from attnbench.record import PLAN, RecordError, read_all, read_plan
from attnbench.report.aggregate import Table, build_table
from attnbench.report.formats import FORMATS, markdown
from attnbench.report.kinds import draw
from attnbench.report.layout import LAYOUT, read_layout


def load_table(folder: Path, experiments: Path, name: str | None = None) -> Table:
    """The table of the records below `folder`, laid out by experiments/<name>/table.yaml where there is one.

    `name` is by default what the runs' config says (sweep.table), else the folder's name.

    Raises:
        RecordError: no records and no plan, or a layout or plan that cannot be taken.
    """
    records, problems = read_all(folder)
    plan = read_plan(folder / PLAN) if (folder / PLAN).is_file() else None
    if not records and not plan:
        others = [path.name for path in folder.parent.glob("*") if path.is_dir() and path != folder]
        known = [f"{folder.parent} has {', '.join(sorted(others))}"] if others else []
        raise RecordError("; ".join([f"{folder}: no records of runs here", *map(str, problems), *known]))
    if name is None:
        said = [*(run.config for run in (plan.runs if plan else [])), *(record.config for record in records)]
        name = said[0]["sweep"]["table"] or folder.name
    layout, paper = read_layout(experiments / name)
    left_out = [str(problem).replace(str(folder), folder.name) for problem in problems]
    where = str(experiments / name / LAYOUT)
    return build_table(records, plan, layout, paper, title=folder.name, where=where, problems=left_out, folder=folder)


def save(table: Table, folder: Path) -> list[str]:
    """Write the table in every format and draw its figures; of each figure a line: its files, or why there are none."""
    for file, render in FORMATS.values():
        (folder / file).write_text(render(table), encoding="utf-8")
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
