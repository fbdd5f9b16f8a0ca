"""Command that writes an HTML page to compare runs: `attnbench report multirun/heads`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import RecordError
from attnbench.reporting.page import MAPS_MEGABYTES, write_page


@make_command(is_output_result=False)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        Exit status: 0, or 2 after an error message.
    """
    arguments = _build_parser().parse_args(argv)
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
    parser = argparse.ArgumentParser(
        prog="attnbench report",
        description="Write one HTML file that holds the table, curves, outputs and attention of every run in FOLDERS.",
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="a sweep's folder, such as multirun/heads")
    parser.add_argument("--output", help="the file to write (default: FOLDER/report/index.html)")
    parser.add_argument(
        "--experiments", default="experiments", help="where SWEEP/table.yaml lies (default: %(default)s)"
    )
    parser.add_argument(
        "--maps-megabytes",
        type=float,
        default=MAPS_MEGABYTES,
        metavar="MB",
        help="the most that attention maps may take of the file (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    exit_process(main())
