"""Command that prints the table of a sweep's records: `attnbench table heads`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from attnbench.process.output import exit_process, make_command
from attnbench.records.record import PLAN_FILE, RecordError
from attnbench.reporting.exports import format_trace
from attnbench.reporting.formats import FORMATS
from attnbench.reporting.tables import read_sweep_results, save_table


@make_command(is_output_result=True)
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write it in every format with its figures, and return the exit status.

    0, or 2 after an error message.
    """
    arguments = _build_parser().parse_args(argv)
    if arguments.all:
        return _print_all_tables(arguments)
    if arguments.sweep is None:
        print("error: expected a sweep's name, or --all", file=sys.stderr)
        return 2
    return _print_table(arguments, arguments.sweep)


def _print_table(arguments: argparse.Namespace, sweep: str) -> int:
    folder = Path(arguments.output, sweep)
    try:
        source = read_sweep_results(folder, Path(arguments.experiments), arguments.table)
        if arguments.baseline:
            source = replace(source, layout=replace(source.layout, baseline=_parse_baseline(arguments.baseline)))
        table = {"table": source.build_table, "comparisons": source.build_comparisons, "effects": source.build_effects}[
            arguments.what
        ]()
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    figures = save_table(table, folder, arguments.what)
    _, render = FORMATS[arguments.format]
    print(render(table), end="", flush=True)
    if arguments.trace:
        print(f"\n{format_trace(table)}", end="", flush=True)
    for line in figures:
        print(line, file=sys.stderr)  # standard output holds the table alone
    return 0


def _parse_baseline(lines: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE lines; values are read as YAML."""
    for line in lines:
        if "=" not in line:
            raise RecordError(f"--baseline {line}: expected KEY=VALUE, as in attention.score=scaled_dot")
    pairs = (line.split("=", 1) for line in lines)
    return {key: yaml.safe_load(value) for key, value in pairs}


def _print_all_tables(arguments: argparse.Namespace) -> int:
    """Print the table of every sweep that has a plan or a run; return the highest exit status."""
    output = Path(arguments.output)
    found = [
        path.name for path in sorted(output.glob("*")) if (path / PLAN_FILE).is_file() or any(path.glob("*/run.json"))
    ]
    if not found:
        print(f"error: {output}: no sweep has left records here", file=sys.stderr)
        return 2
    return max(_print_table(arguments, sweep) for sweep in found)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnbench table",
        description="Print a sweep's table; write table.md, .csv, .tex, .html, .json and figures beside its records.",
    )
    parser.add_argument("sweep", nargs="?", help="the sweep's name: its records lie in OUTPUT/SWEEP")
    parser.add_argument("--all", action="store_true", help="the tables of every sweep in OUTPUT")
    parser.add_argument("--output", default="multirun", help="where runs write (default: %(default)s)")
    parser.add_argument(
        "--experiments", default="experiments", help="where SWEEP/table.yaml lies (default: %(default)s)"
    )
    parser.add_argument("--table", help="the layout in EXPERIMENTS/TABLE/table.yaml (default: what the runs say)")
    parser.add_argument(
        "--baseline", action="append", metavar="KEY=VALUE",
        help="compare all rows with the one that has this value, instead of the layout's baseline",
    )  # fmt: skip
    parser.add_argument("--format", choices=sorted(FORMATS), default="markdown", help="what is printed")
    what = parser.add_mutually_exclusive_group()
    what.set_defaults(what="table")
    what.add_argument(
        "--compare", dest="what", action="store_const", const="comparisons",
        help="instead: each row against the layout's baseline, tested over seeds and over outputs for the test set",
    )  # fmt: skip
    what.add_argument(
        "--effects", dest="what", action="store_const", const="effects",
        help="instead: what each row key does, averaged over the others, and what two do together",
    )  # fmt: skip
    parser.add_argument("--trace", action="store_true", help="print also which runs each number is made of")
    return parser


if __name__ == "__main__":
    exit_process(main())
