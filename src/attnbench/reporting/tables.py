"""Write a table in all formats, and its figures, from a folder of records. The output is deterministic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from attnbench.records.record import Plan, Record, RecordError
from attnbench.reporting.aggregation import Table, build_table, group_runs
from attnbench.reporting.comparisons import build_comparison_table
from attnbench.reporting.effects import build_effects_table
from attnbench.reporting.figure_registry import save_figure
from attnbench.reporting.formats import FORMATS, format_markdown
from attnbench.reporting.layout import LAYOUT_FILE, Layout, Paper, read_layout
from attnbench.reporting.runs import load_records, read_sweep_plan


@dataclass(frozen=True)
class SweepResults:
    """Records, plan and layout of a sweep's folder."""

    folder: Path
    records: list[Record]
    plan: Plan | None
    layout: Layout
    paper: Paper
    layout_path: str  # path of table.yaml, for error messages
    problems: list[str]  # sentences about unusable records

    def build_table(self) -> Table:
        """Build the sweep's table.

        Raises:
            RecordError: see `build_table`.
        """
        return build_table(
            self.records,
            self.plan,
            self.layout,
            self.paper,
            title=self.folder.name,
            layout_path=self.layout_path,
            problems=self.problems,
            folder=self.folder,
        )

    def build_comparisons(self) -> Table:
        """Build the table that compares each row with the layout's baseline.

        Raises:
            RecordError: see `build_comparison_table`.
        """
        made = group_runs(self.records, self.plan, self.layout, self.layout_path)
        return build_comparison_table(
            made, self.layout, self.folder, self.layout_path, self.layout.title or self.folder.name
        )

    def build_effects(self) -> Table:
        """Build the table of main effects and interactions.

        Raises:
            RecordError: see `build_effects_table`.
        """
        made = group_runs(self.records, self.plan, self.layout, self.layout_path)
        return build_effects_table(made, self.layout_path, self.layout.title or self.folder.name)


def read_sweep_results(folder: Path, experiments: Path, name: str | None = None) -> SweepResults:
    """Read the records and the plan of a sweep, and its layout.

    Args:
        folder: the sweep's folder.
        experiments: folder of the layouts (experiments/<name>/table.yaml).
        name: name of the layout; by default the runs' `sweep.table`, else the folder's name.

    Raises:
        RecordError: there are no records and no plan; there is no layout called `name`; or a layout or plan cannot be
            read.
    """
    records, problems = load_records(folder)
    plan = read_sweep_plan(folder)
    if not records and not plan:
        others = [path.name for path in folder.parent.glob("*") if path.is_dir() and path != folder]
        known = [f"{folder.parent} has {', '.join(sorted(others))}"] if others else []
        raise RecordError("; ".join([f"{folder}: no records of runs here", *problems, *known]))
    missing = []
    if name is None:
        configs = [*(run.config for run in (plan.runs if plan else [])), *(record.config for record in records)]
        requested = configs[0]["sweep"].get("table")
        name = requested or folder.name
        if requested and not (experiments / requested / LAYOUT_FILE).is_file():  # the table of a folder from elsewhere
            absent = f"no {requested}/{LAYOUT_FILE} in {experiments.name}"
            missing = [f"sweep.table={requested}: {absent}: the default layout is used"]
    else:
        check_layout(experiments, name)
    layout, paper = read_layout(experiments / name)
    planned = plan.runs[0].config["sweep"].get("baseline") if plan is not None and plan.runs else None
    if planned and not layout.baseline:
        layout = replace(layout, baseline=planned)
    return SweepResults(
        folder, records, plan, layout, paper, str(experiments / name / LAYOUT_FILE), [*missing, *problems]
    )


def check_layout(experiments: Path, name: str) -> None:
    """Check that a layout exists.

    Raises:
        RecordError: it does not; the message lists the layouts that exist.
    """
    if not (experiments / name / LAYOUT_FILE).is_file():
        raise RecordError(f"{experiments / name / LAYOUT_FILE}: no such layout; there are {_list_layouts(experiments)}")


def _list_layouts(experiments: Path) -> str:
    return ", ".join(sorted(path.parent.name for path in experiments.glob(f"*/{LAYOUT_FILE}"))) or "none"


def load_table(folder: Path, experiments: Path, name: str | None = None) -> Table:
    """Read a sweep's folder and build its table.

    Args:
        folder: the sweep's folder.
        experiments: folder of the layouts.
        name: name of the layout; None: see `read_sweep_results`.

    Raises:
        RecordError: see `read_sweep_results` and `build_table`.
    """
    return read_sweep_results(folder, experiments, name).build_table()


def save_table(table: Table, folder: Path, stem: str = "table") -> list[str]:
    """Write the table in every format and draw its figures.

    Args:
        table: the table.
        folder: folder to write into.
        stem: file name without suffix.

    Returns:
        A line for each figure: its files, or the reason why there are none.
    """
    for suffix, render in FORMATS.values():
        (folder / f"{stem}{suffix}").write_text(render(table), encoding="utf-8")
    lines = []
    for figure in table.figures:
        paths = save_figure(figure, folder)
        lines.append(f"figure {figure.layout.name}: {' '.join(map(str, paths)) or ' '.join(figure.notes)}")
    return lines


def write_tables(folder: Path, experiments: Path, name: str | None = None) -> str:
    """Write the table of a sweep and its figures into the sweep's folder.

    Args:
        folder: the sweep's folder.
        experiments: folder of the layouts.
        name: name of the layout; None: see `read_sweep_results`.

    Returns:
        The table as Markdown.

    Raises:
        RecordError: see `load_table`.
    """
    table = load_table(folder, experiments, name)
    save_table(table, folder)
    return format_markdown(table)
