"""Command that renders committed results again and compares: `attnbench verify [EXPERIMENT ...]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import RecordError
from attnbench.reporting.verification import find_differences, list_results, write_results


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Compare or write the committed results, and return the exit status.

    0 if all are equal, 1 if some differ, 2 after an error message.
    """
    parser = argparse.ArgumentParser(
        prog="attnbench verify",
        description="Render the tables and figures in experiments/*/results again from their records, and compare.",
    )
    parser.add_argument("experiment", nargs="*", help="names of experiments (default: all that have records)")
    parser.add_argument("--experiments", default="experiments", type=Path, help="their folder (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="instead: write the tables and figures")
    arguments = parser.parse_args(argv)
    known = list_results(arguments.experiments)
    chosen = [arguments.experiments / name for name in arguments.experiment] or known
    if missing := [path.name for path in chosen if path not in known]:
        names = ", ".join(path.name for path in known) or "none"
        print(f"error: {', '.join(missing)}: no records in results/; expected some of {names}", file=sys.stderr)
        return 2
    status = 0
    for experiment in chosen:
        if arguments.write:
            try:
                write_results(experiment)
            except RecordError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            continue
        differences = list(find_differences(experiment))
        print(f"{experiment.name}: {'different' if differences else 'the same'}", flush=True)
        for difference in differences:
            print(f"  {difference}", flush=True)
        status = max(status, int(bool(differences)))
    return status


if __name__ == "__main__":
    exit_process(main())
