"""Command for a whole sweep: `python -m attnbench.sweeps status multirun/heads` prints the state of its runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import RecordError
from attnbench.sweeps.status import format_status


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 after an error message."""
    parser = argparse.ArgumentParser(
        prog="python -m attnbench.sweeps", description="Tell how a sweep stands, or hand it to W&B."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="every run of a sweep and what has become of it")
    status.add_argument("folder", type=Path, help="the sweep's folder, which holds plan.json: OUTPUT/SWEEP")
    wandb = commands.add_parser("wandb", help="write a sweep as a file for `wandb sweep`, whose agents run it")
    wandb.add_argument("overrides", nargs="+", help="as for attnbench.train -m: sweep=heads, key=value, key=1,2,3")
    arguments = parser.parse_args(argv)
    if arguments.command == "wandb":
        return _write_wandb_sweep(arguments.overrides)
    try:
        print(format_status(arguments.folder))
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _write_wandb_sweep(overrides: list[str]) -> int:
    """Write the sweep file for W&B agents and print the next command."""
    from attnbench.config import ConfigError  # and Hydra with it, for which a status has no time
    from attnbench.sweeps.plan import build_plan
    from attnbench.sweeps.wandb_agents import write_sweep_file

    try:
        plan = build_plan(overrides, is_multirun=True)
        path = write_sweep_file(plan)
    except ConfigError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        return 2
    print(
        f"{path}: {len(plan.runs)} runs\n`wandb sweep {path}` names the sweep, and `wandb agent` in as many places as "
        f"you like runs it, from this folder and with attnbench's environment active;\n"
        f"the records lie in {path.parent}, and `python -m attnbench.table {plan.sweep}` prints their table"
    )
    return 0


if __name__ == "__main__":
    exit_process(main())
