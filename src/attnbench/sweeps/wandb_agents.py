"""Sweep file for W&B: `wandb sweep FILE` distributes the planned runs to `wandb agent` processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from attnbench.config import ConfigError, Fault
from attnbench.records.record import Plan, write_record
from attnbench.sweeps.plan import get_sweep_folder

SWEEP_FILE = "wandb_sweep.yaml"


def write_sweep_file(plan: Plan) -> Path:
    """Write the sweep file and plan.json into the sweep's folder, and return the path of the sweep file.

    Runs that an agent starts have the same run_id, folder and record as in a multirun.

    Raises:
        ConfigError: as `build_sweep_config`.
    """
    text = yaml.safe_dump(build_sweep_config(plan), sort_keys=False, allow_unicode=True)
    folder = get_sweep_folder(plan.runs[0].config)
    write_record(plan, folder)
    path = folder / SWEEP_FILE
    path.write_text(text, encoding="utf-8")
    return path


def build_sweep_config(plan: Plan) -> dict[str, Any]:
    """Build W&B's sweep configuration: varying keys as a grid, all others in the command.

    Raises:
        ConfigError: if the runs are not a grid, but drawn by a search or chosen in stages.
    """
    grids = ("hydra/sweeper=basic", "hydra/sweeper=grid")
    drawn = [line for line in plan.command if line.startswith("hydra/sweeper=") and line not in grids]
    if drawn:
        expected = "expected grid: W&B's agents run a grid; its own searches are set in the file that this one writes"
        raise ConfigError([Fault("hydra/sweeper", drawn[-1].partition("=")[2], expected)])
    sweep = plan.runs[0].config["sweep"]
    for key, value in (("sweep.tune.params", sweep["tune"]["params"]), ("sweep.seeds", sweep["seeds"])):
        if value is not None:
            raise ConfigError([Fault(key, str(value), "expected null: W&B's agents cannot run a sweep in stages")])
    if sweep["zip"] or plan.skipped:
        key = "zip" if sweep["zip"] else "skip_invalid"
        raise ConfigError([Fault(f"sweep.{key}", "", "expected a full grid: W&B's agents run all combinations")])
    given = [dict(line.partition("=")[::2] for line in run.overrides) for run in plan.runs]
    values = {key: list(dict.fromkeys(run[key] for run in given)) for key in given[0]}
    fixed = [f"{key}={texts[0]}" for key, texts in values.items() if len(texts) == 1]
    logger = plan.runs[0].config["logger"]
    owner = {key: logger[key] for key in ("project", "entity") if logger[key]}
    # Runs of an agent are on the server from the start, so they log online.
    command = ["${env}", "${interpreter}", "-m", "${program}", *fixed, "logger.mode=online", "${args_no_hyphens}"]
    return {
        "name": plan.sweep,
        **owner,
        "program": "attnbench.train",
        "method": "grid",
        "command": command,
        "parameters": {
            key: {"values": list(map(_parse_value, texts))} for key, texts in values.items() if len(texts) > 1
        },
    }


def _parse_value(text: str) -> int | float | str:
    """Return a number if the agent would write it as it was typed, because W&B draws axes of numbers; else text."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text:
            return number
    return text
