"""Command that trains the runs behind a committed table again and compares: `attnbench reproduce heads`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import PLAN_FILE, RecordError, read_plan
from attnbench.reporting.reproduction import Outcome, compare_tables
from attnbench.reporting.tables import load_table
from attnbench.reporting.verification import RESULTS_FOLDER, list_results


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Train the runs and print a line for each cell.

    Returns:
        Exit status: 0 if each cell is the same or inside the interval, 1 if not, 2 after an error message.
    """
    parser = argparse.ArgumentParser(
        prog="attnbench reproduce",
        description="Train all runs behind a committed table again, and compare each cell: the same digits, inside the"
        " interval in which the mean of new runs lies in 95 % of cases, or outside. The same command resumes.",
    )
    parser.add_argument("experiment", help="name of a folder in EXPERIMENTS with results")
    parser.add_argument("overrides", nargs="*", help="how to run, such as sweep.workers=4; not what to run")
    parser.add_argument("--experiments", default="experiments", type=Path, help="(default: %(default)s)")
    parser.add_argument("--output", default="reproduced", type=Path, help="where runs write (default: %(default)s)")
    arguments = parser.parse_args(argv)
    committed = arguments.experiments / arguments.experiment / RESULTS_FOLDER
    name = arguments.experiment
    try:
        if committed.parent not in list_results(arguments.experiments):
            raise RecordError(f"{committed}: no committed records there")
        plan = committed / PLAN_FILE
        command = read_plan(plan).command if plan.is_file() else [f"sweep={name}"]
        command = [*command, *arguments.overrides, f"paths.output={arguments.output}", f"sweep.name={name}"]
        status = subprocess.run([sys.executable, "-m", "attnbench", "train", "-m", *command], check=False).returncode
        if status != 0:
            return status
        before = load_table(committed, arguments.experiments, name)
        found = load_table(arguments.output / name, arguments.experiments, name)
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    comparisons = list(compare_tables(before, found))
    for one in comparisons:
        print(f"{one.row}: {one.column}: {one.committed}, now {one.found}: {one.outcome.value}")
    counts = [f"{sum(one.outcome is outcome for one in comparisons)} {outcome.value}" for outcome in Outcome]
    print(f"{len(comparisons)} cells: {', '.join(counts)}")
    return int(any(one.outcome in (Outcome.outside, Outcome.missing) for one in comparisons))


if __name__ == "__main__":
    exit_process(main())
