"""What a table shows of a tuned sweep: chosen values, a note about the choice, and validation by candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from attnbench.records.record import Plan, TunedSetting, Tuning
from attnbench.reporting.cells import is_number
from attnbench.reporting.figure_registry import build_figure
from attnbench.reporting.figure_specs import FigureKind, FigureLayout
from attnbench.reporting.figures import Figure
from attnbench.reporting.keys import RowKey
from attnbench.reporting.runs import Run

_EDGE = " (edge)"
FIGURE_NAME = "tuning"


def exclude_tuning_runs(runs: Sequence[Run], plan: Plan | None) -> list[Run]:
    """Return the runs without those that serve only to choose a candidate."""
    excluded = {run.run_id for run in plan.runs if run.is_tuning} if plan is not None else set()
    return [run for run in runs if run.run_id not in excluded]


def build_tuned_keys(plan: Plan | None, rows: Sequence[RowKey]) -> list[RowKey]:
    """Build the row keys that show the chosen values.

    Args:
        plan: plan of the sweep, or None.
        rows: row keys of the layout.
    """
    if plan is None or plan.tuning is None:
        return []
    known = {key.key for key in rows}
    return [RowKey(key, f"{key} (tuned)") for key in plan.tuning.params if key not in known]


def format_tuned_label(plan: Plan | None, run: Run, key: RowKey, label: str) -> str:
    """Mark the label of a chosen value that is the smallest or largest candidate.

    Args:
        plan: plan of the sweep, or None.
        run: a run of the row.
        key: key of the label.
        label: the chosen value.
    """
    if plan is None or plan.tuning is None:
        return label
    at_edge = any(run.run_id in setting.run_ids and key.key in setting.edge_keys for setting in plan.tuning.settings)
    return f"{label}{_EDGE}" if at_edge else label


def write_tuning_notes(plan: Plan | None) -> Iterator[str]:
    """Yield the notes about the choice of candidates."""
    if plan is None or plan.tuning is None:
        return
    tuning = plan.tuning
    num_runs = len({run_id for setting in tuning.settings for one in setting.candidates for run_id in one.run_ids})
    grid = "; ".join(f"{key}: {', '.join(map(str, _list_values(tuning, key)))}" for key in tuning.params)
    seeds = f"seed{'s' * (len(tuning.seeds) > 1)} {', '.join(map(str, tuning.seeds))}"
    budget = f", with {', '.join(tuning.overrides)}" if tuning.overrides else ""
    yield (
        f"Tuned: each row has the candidate with the best validation {tuning.metric} over {seeds}{budget}"
        f" ({num_runs} tuning runs). Candidates: {grid}. The test set was not used to choose."
    )
    if any(setting.edge_keys for setting in tuning.settings):
        yield "(edge): the chosen value is the smallest or largest candidate, so a better value may exist outside."
    for setting in tuning.settings:
        if setting.chosen is None:
            yield f"{' '.join(_select_own_overrides(setting, tuning)) or 'The setting'}: no candidate finished."


def build_tuning_figure(
    runs: Sequence[Run], plan: Plan | None, rows: Sequence[RowKey], layout_path: str, folder: Path | None
) -> Iterator[Figure]:
    """Yield the figure of validation by candidate, one line for each setting, if candidates are numbers.

    Args:
        runs: all runs of the sweep.
        plan: plan of the sweep, or None.
        rows: row keys of the table, without the tuned keys.
        layout_path: path of table.yaml, for error messages.
        folder: folder with the runs' folders.
    """
    if plan is None or plan.tuning is None:
        return
    key = next(iter(plan.tuning.params))
    values = _list_values(plan.tuning, key)
    if len(values) < 2 or not all(is_number(value) for value in values):
        return
    ids = {run_id for setting in plan.tuning.settings for one in setting.candidates for run_id in one.run_ids}
    others = [RowKey(other) for other in plan.tuning.params if other != key]
    layout = FigureLayout(
        FIGURE_NAME, FigureKind.lines, f"metrics.best.{plan.tuning.metric}", x=key, group=[*rows, *others],
        y_label=f"validation {plan.tuning.metric}", log=min(values) > 0,
    )  # fmt: skip
    shown = [run for run in runs if run.run_id in ids and key in run.config]
    if shown:
        yield build_figure(shown, layout, layout_path, folder)


def _list_values(tuning: Tuning, key: str) -> list[Any]:
    """List all candidate values of a key, those of extended grids included."""
    found = [one.values[key] for setting in tuning.settings for one in setting.candidates if key in one.values]
    values = list(dict.fromkeys([*tuning.params[key], *found]))
    return sorted(values) if all(is_number(value) for value in values) else values


def _select_own_overrides(setting: TunedSetting, tuning: Tuning) -> list[str]:
    """Return the overrides of a setting that other settings do not share."""
    shared = set.intersection(*(set(other.overrides) for other in tuning.settings))
    return [line for line in setting.overrides if line not in shared or len(tuning.settings) == 1]
