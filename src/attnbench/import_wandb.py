"""Command that builds records from W&B runs: `attnbench import-wandb FOLDER-or-ENTITY/PROJECT`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import RECORD_FILE, RecordError, write_record
from attnbench.tracking.importing import build_record, read_folder, read_project
from attnbench.tracking.summary import JOB_TYPE


@make_command(is_output_result=False)
def main(argv: Sequence[str] | None = None) -> int:
    """Write the missing records and return the exit status.

    0, 1 if a run could not be imported, 2 after an error message.
    """
    arguments = _build_parser().parse_args(argv)
    source = Path(arguments.source)
    made, had, refused = 0, 0, 0
    try:
        if not source.exists() and arguments.source.count("/") != 1:
            raise RecordError(f"{source}: no such folder, and no project, which is given as entity/project")
        for run in read_folder(source) if source.exists() else read_project(arguments.source):
            if run.run_id.startswith(f"{JOB_TYPE}-"):
                continue  # of a sweep's table, which is made of records
            try:
                record = build_record(run)
            except RecordError as error:
                refused += 1
                print(f"error: {error}", file=sys.stderr)
                continue
            folder = Path(arguments.output, record.sweep, record.run_id)
            if (folder / RECORD_FILE).exists():
                had += 1
                continue
            write_record(record, folder)
            made += 1
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.source}: {made} records made in {arguments.output}, {had} there before, {refused} refused")
    return 1 if refused else 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnbench import-wandb",
        description="Make records of attnbench's runs that W&B has and OUTPUT has not; what is there stays.",
    )
    parser.add_argument("source", help="a folder with offline W&B runs below it, or entity/project at the server")
    parser.add_argument("--output", default="multirun", help="where records go (default: %(default)s)")
    return parser


if __name__ == "__main__":
    exit_process(main())
