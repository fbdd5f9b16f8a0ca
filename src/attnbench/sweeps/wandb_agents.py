"""A sweep as a file for W&B: `wandb sweep FILE` hands its runs to whoever runs `wandb agent`, by the same plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from attnbench.config import ConfigError, Fault
from attnbench.records.record import Plan, write_record
from attnbench.sweeps.plan import sweep_folder

FILE = "wandb_sweep.yaml"


def write_sweep(plan: Plan) -> Path:
    """Write the sweep file and plan.json into the sweep's folder, and return the file's path.

    A run that an agent starts has the run_id, folder and record that it has in a multirun. Raises as `sweep_of`.
    """
    text = yaml.safe_dump(sweep_of(plan), sort_keys=False, allow_unicode=True)
    folder = sweep_folder(plan.runs[0].config)
    write_record(plan, folder)
    path = folder / FILE
    path.write_text(text, encoding="utf-8")
    return path


def sweep_of(plan: Plan) -> dict[str, Any]:
    """What W&B calls a sweep configuration: the keys that vary as a grid, all others in the command.

    Raises:
        ConfigError: the plan's runs are drawn, and so are no grid.
    """
    grids = ("hydra/sweeper=basic", "hydra/sweeper=grid")
    drawn = [line for line in plan.command if line.startswith("hydra/sweeper=") and line not in grids]
    if drawn:
        told = "expected grid: W&B's agents run a grid; its own searches are set in the file that this one writes"
        raise ConfigError([Fault("hydra/sweeper", drawn[-1].partition("=")[2], told)])
    given = [dict(line.partition("=")[::2] for line in run.overrides) for run in plan.runs]
    values = {key: list(dict.fromkeys(run[key] for run in given)) for key in given[0]}
    fixed = [f"{key}={texts[0]}" for key, texts in values.items() if len(texts) == 1]
    logger = plan.runs[0].config["logger"]
    owner = {key: logger[key] for key in ("project", "entity") if logger[key]}
    # An agent's runs are at the server from the start, and so is what they log.
    command = ["${env}", "${interpreter}", "-m", "${program}", *fixed, "logger.mode=online", "${args_no_hyphens}"]
    return {
        "name": plan.sweep,
        **owner,
        "program": "attnbench.train",
        "method": "grid",
        "command": command,
        "parameters": {key: {"values": list(map(_value, texts))} for key, texts in values.items() if len(texts) > 1},
    }


def _value(text: str) -> int | float | str:
    """A number where the agent will type it as it was typed here, since W&B draws axes of numbers; else text."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if str(number) == text:
            return number
    return text
