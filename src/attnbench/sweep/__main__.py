"""The door to a sweep that goes on: `python -m attnbench.sweep status multirun/heads` tells how it stands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.record import RecordError
from attnbench.sweep.status import table


def main(argv: Sequence[str] | None = None) -> int:
    """Print the state of every run; 0, or 2 after one sentence about what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m attnbench.sweep", description="Tell how a sweep stands.")
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="every run of a sweep and what has become of it")
    status.add_argument("folder", type=Path, help="the sweep's folder, which holds plan.json: OUTPUT/SWEEP")
    arguments = parser.parse_args(argv)
    try:
        print(table(arguments.folder))
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
