"""The door to tables: `python -m attnbench.table heads` prints the table of a sweep's records."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.record import RecordError
from attnbench.report.formats import FORMATS
from attnbench.report.tables import load_table, save


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write it in every format and its figures; 0, or 2 after one sentence about what is wrong."""
    arguments = _parser().parse_args(argv)
    folder = Path(arguments.output, arguments.sweep)
    try:
        table = load_table(folder, Path(arguments.experiments), arguments.table)
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    figures = save(table, folder)
    _, render = FORMATS[arguments.format]
    print(render(table), end="", flush=True)
    for told in figures:
        print(told, file=sys.stderr)  # standard output holds the table alone
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m attnbench.table",
        description="Print a sweep's table; write table.md, table.csv, table.tex and its figures beside its records.",
    )
    parser.add_argument("sweep", help="the sweep's name: its records lie in OUTPUT/SWEEP")
    parser.add_argument("--output", default="multirun", help="where runs write (default: %(default)s)")
    parser.add_argument(
        "--experiments", default="experiments", help="where SWEEP/table.yaml lies (default: %(default)s)"
    )
    parser.add_argument("--table", help="the layout in EXPERIMENTS/TABLE/table.yaml (default: what the runs say)")
    parser.add_argument("--format", choices=sorted(FORMATS), default="markdown", help="what is printed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
