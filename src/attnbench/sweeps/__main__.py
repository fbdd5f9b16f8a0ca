"""The door to a sweep as a whole: `python -m attnbench.sweeps status multirun/heads` tells how it stands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import RecordError
from attnbench.sweeps.status import table


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked; 0, or 2 after a sentence a fault about what is wrong."""
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
        return _hand_over(arguments.overrides)
    try:
        print(table(arguments.folder))
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _hand_over(overrides: list[str]) -> int:
    from attnbench.config import ConfigError  # and Hydra with it, for which a status has no time
    from attnbench.sweeps.plan import expand
    from attnbench.sweeps.wandb_agents import write_sweep

    try:
        plan = expand(overrides, multirun=True)
        path = write_sweep(plan)
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
