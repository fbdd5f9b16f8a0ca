"""Command line for reports other than tables: `python -m attnbench.reporting page multirun/heads`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import RecordError
from attnbench.reporting.page import MAPS_MEGABYTES, write_page

_IMPORT_COMMAND = "import-wandb"  # a separate command that reads from W&B; listed here because it writes records


@make_command(is_output_result=False)
def main(argv: Sequence[str] | None = None) -> int:
    """Run a report command.

    Returns:
        Exit status: 0, or 2 after an error message.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == [_IMPORT_COMMAND]:
        return int(importlib.import_module("attnbench.import_wandb").main(given[1:]))
    arguments = _build_parser().parse_args(given)
    try:
        written = write_page(
            [Path(folder) for folder in arguments.folders],
            Path(arguments.experiments),
            Path(arguments.output) if arguments.output else None,
            arguments.maps_megabytes,
        )
    except (RecordError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for note in written.notes:
        print(note, file=sys.stderr)
    size = written.path.stat().st_size / 2**20
    print(f"{written.path}: {written.runs} runs, {size:.1f} MB; open it in a browser")
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m attnbench.reporting", description="What records show, to look at.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser(_IMPORT_COMMAND, help="records of runs that W&B has and that are not here", add_help=False)
    page = commands.add_parser(
        "page",
        help="one HTML file to compare runs in",
        description="Write one HTML file that holds the table, curves, outputs and attention of every run in FOLDERS.",
    )
    page.add_argument("folders", nargs="+", metavar="FOLDER", help="a sweep's folder, such as multirun/heads")
    page.add_argument("--output", help="the file to write (default: FOLDER/report/index.html)")
    page.add_argument("--experiments", default="experiments", help="where SWEEP/table.yaml lies (default: %(default)s)")
    page.add_argument(
        "--maps-megabytes",
        type=float,
        default=MAPS_MEGABYTES,
        metavar="MB",
        help="the most that attention maps may take of the file (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    exit_process(main())
