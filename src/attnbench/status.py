"""Command that prints the state of all runs of a sweep: `attnbench status multirun/heads`."""

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
    """Run the command.

    Returns:
        Exit status: 0, or 2 after an error message.
    """
    parser = argparse.ArgumentParser(prog="attnbench status", description="Print the state of all runs of a sweep.")
    parser.add_argument("folder", type=Path, help="the sweep's folder, which holds plan.json: OUTPUT/SWEEP")
    try:
        print(format_status(parser.parse_args(argv).folder))
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    exit_process(main())
