"""Command that uploads offline W&B runs: `attnbench sync multirun`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import PLAN_FILE, RecordError, read_plan
from attnbench.tracking.sessions import find_sessions, is_uploaded
from attnbench.tracking.upload import ServerUnavailable, check_server, upload_sessions
from attnbench.tracking.workspace import save_workspace, write_workspace


@make_command(is_output_result=False)
def main(argv: Sequence[str] | None = None) -> int:
    """Upload and return the exit status: 0, 1 if something was not uploaded, 2 if login or server is missing."""
    arguments = _build_parser().parse_args(argv)
    folder = Path(arguments.folder)
    if not folder.is_dir():
        return _print_error(f"{folder}: no such folder; runs write to multirun/, or where paths.output says")
    try:
        plan = read_plan(folder / PLAN_FILE) if arguments.workspace else None
        if plan is not None:
            path = write_workspace(plan, folder)
            print(f"{path}: the workspace, which this command saves at W&B where somebody is logged in")
        found = find_sessions(folder)
        missing = [path for path in found if not is_uploaded(path)]
        print(f"{folder}: {len(found)} W&B runs, {len(found) - len(missing)} uploaded before, {len(missing)} to upload")
        if plan is None and not missing:
            return 0
        check_server()
        if plan is not None:
            print(save_workspace(plan, folder))
    except (ServerUnavailable, RecordError) as error:
        return _print_error(error)
    left = upload_sessions(missing, minutes=arguments.minutes)
    if missing:
        print(f"{len(missing) - len(left)} uploaded")
    for path in left:
        print(f"error: {path}: not uploaded; the same command tries again", file=sys.stderr)
    return 1 if left else 0


def _print_error(what: object) -> int:
    print(f"error: {what}", file=sys.stderr)
    return 2


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnbench sync",
        description="Upload the W&B runs below a folder that are not at the server, or not all of them.",
    )
    parser.add_argument("folder", nargs="?", default="multirun", help="where runs write (default: %(default)s)")
    parser.add_argument(
        "--workspace", action="store_true", help="FOLDER is one sweep's: save a workspace with the panels for it, too"
    )
    parser.add_argument("--minutes", type=float, default=10, help="for 20 runs to upload (default: %(default)s)")
    return parser


if __name__ == "__main__":
    exit_process(main())
