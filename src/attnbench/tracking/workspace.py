"""W&B workspace that compares a sweep's runs: curves with bands, parallel coordinates, attention side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.records.record import Plan, RecordError
from attnbench.tracking.runs import STEP_KEY
from attnbench.tracking.summary import JOB_TYPE

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

WORKSPACE_FILE = "workspace.json"
_MAIN_METRICS = {"translation": "bleu", "classification": "accuracy"}  # monitored metric of each task
_DISPLAYED_KEYS = (
    "model.depth",
    "model.num_heads",
    "model.norm_placement",
    "attention.score",
)  # always shown


def write_workspace(plan: Plan, folder: Path) -> Path:
    """Write a sweep's workspace, in W&B's format, into the sweep's folder, and return the path.

    Args:
        plan: plan of the sweep.
        folder: the sweep's folder.

    Raises:
        RecordError: if W&B's package for workspaces is missing.
    """
    path = folder / WORKSPACE_FILE
    path.write_text(
        build_workspace(plan, folder)._to_model().model_dump_json(by_alias=True, indent=1) + "\n", encoding="utf-8"
    )
    return path


def save_workspace(plan: Plan, folder: Path) -> str:
    """Save a sweep's workspace at W&B with the current login, and return its address.

    Args:
        plan: plan of the sweep.
        folder: the sweep's folder.

    Raises:
        RecordError: as `write_workspace`.
    """
    import wandb

    entity = plan.runs[0].config["logger"]["entity"] or wandb.Api().default_entity or ""
    workspace: Any = build_workspace(plan, folder, entity)
    return str(workspace.save().url)


def build_workspace(plan: Plan, folder: Path, entity: str = "") -> Workspace:
    """Build the workspace of a sweep, with runs grouped by what varies except the seed.

    Args:
        plan: plan of the sweep.
        folder: the sweep's folder.
        entity: W&B entity.

    Raises:
        RecordError: as `write_workspace`.
    """
    try:
        from wandb_workspaces import expr, workspaces
    except ModuleNotFoundError as error:
        raise RecordError("a workspace needs a package: pip install 'attnbench[workspaces]'") from error
    varied = [key for key in find_varying_keys(plan) if key != "seed"]
    shown = workspaces.RunsetSettings(
        filters=expr.And(expr.Metric("Group") == plan.sweep, expr.Metric("JobType") != JOB_TYPE),
        groupby=[expr.Config(key) for key in varied],
    )
    return workspaces.Workspace(
        entity=entity,
        project=plan.runs[0].config["logger"]["project"],
        name=f"attnbench {plan.sweep}",
        sections=[_build_curves(plan), _build_parameter_panels(plan, varied), *_build_attention_sections(folder)],
        settings=workspaces.WorkspaceSettings(x_axis=STEP_KEY, max_runs=50),
        runset_settings=shown,
    )


def find_varying_keys(plan: Plan) -> list[str]:
    """Return the config keys in which the runs of a plan differ, in W&B's spelling."""
    configs = [dict(_iterate_leaves(run.config)) for run in plan.runs]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]


def _build_curves(plan: Plan) -> Section:
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports.v2 import interface as v2

    keys = ["train/loss", "val/loss", f"val/{_get_main_metric(plan)}", "train/grad_norm"]
    panels: list[Any] = [
        v2.LinePlot(
            title=key, x=STEP_KEY, y=[key], groupby_aggfunc="mean", groupby_rangefunc="stddev", max_runs_to_show=50
        )
        for key in keys
    ]
    return workspaces.Section(name="Curves: mean and standard deviation over seeds", panels=panels, is_open=True)


def _build_parameter_panels(plan: Plan, varied: list[str]) -> Section:
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports.v2 import interface as v2

    known = dict(_iterate_leaves(plan.runs[0].config))
    keys = dict.fromkeys([*(key for key in _DISPLAYED_KEYS if key in known), *varied])
    columns = [v2.ParallelCoordinatesPlotColumn(metric=v2.Config(key)) for key in keys]
    best = v2.ParallelCoordinatesPlotColumn(metric=v2.SummaryMetric(f"best/{_get_main_metric(plan)}"))
    panels: list[Any] = [v2.ParallelCoordinatesPlot(title=f"best {_get_main_metric(plan)}", columns=[*columns, best])]
    return workspaces.Section(name="Parameters", panels=panels, is_open=True)


def _build_attention_sections(folder: Path) -> Iterator[Section]:
    """Yield sections with one panel for each picture and one column for each run."""
    from wandb_workspaces import workspaces
    from wandb_workspaces.reports.v2 import interface as v2

    names = sorted({path.stem for path in folder.glob("*/pictures/final/*.png")})
    if names:
        panels: list[Any] = [
            v2.MediaBrowser(title=name, media_keys=[f"pictures/{name}"], mode="gallery", gallery_axis="run")
            for name in names
        ]
        yield workspaces.Section(name="Attention and other pictures", panels=panels, is_open=True)


def _get_main_metric(plan: Plan) -> str:
    return _MAIN_METRICS[plan.runs[0].config["task"]["family"]]


def _iterate_leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _iterate_leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
