"""Command that writes a sweep as a file for `wandb sweep`: `attnbench wandb-sweep sweep=heads`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from attnbench.config import ConfigError
from attnbench.process.output import exit_process, make_command
from attnbench.sweeps.plan import build_plan
from attnbench.sweeps.wandb_agents import write_sweep_file


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Write the sweep file for W&B agents and print the next command.

    Returns:
        Exit status: 0, or 2 after an error message.
    """
    parser = argparse.ArgumentParser(
        prog="attnbench wandb-sweep", description="Write a sweep as a file for `wandb sweep`, whose agents run it."
    )
    parser.add_argument("overrides", nargs="+", help="as for attnbench train -m: sweep=heads, key=value, key=1,2,3")
    try:
        plan = build_plan(parser.parse_args(argv).overrides, is_multirun=True)
        path = write_sweep_file(plan)
    except ConfigError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)
        return 2
    print(
        f"{path}: {len(plan.runs)} runs\n`wandb sweep {path}` names the sweep, and `wandb agent` in as many places as "
        f"you like runs it, from this folder and with attnbench's environment active;\n"
        f"the records lie in {path.parent}, and `attnbench table {plan.sweep}` prints their table"
    )
    return 0


if __name__ == "__main__":
    exit_process(main())
