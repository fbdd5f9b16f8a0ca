"""Command `attnbench VERB ...`, also as `python -m attnbench VERB ...`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from attnbench.process.commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of the first argument with the remaining arguments.

    Args:
        argv: arguments; None: those of the process.

    Returns:
        Exit status of the command; 2 if there is no such command.
    """
    if argv is None:
        from attnbench.process import early  # noqa: F401  # before imports that take half a second
    from attnbench.process.output import print_error

    given = list(sys.argv[1:] if argv is None else argv)
    if not given or given[0] in ("-h", "--help"):
        print(format_help())
        return 0 if given else 2
    if given[0] not in COMMANDS:
        print_error(f"{given[0]}: expected one of {', '.join(COMMANDS)}")
        return 2
    if given[0] == "sweep":
        given = ["train", "-m", *(f"sweep={name}" for name in given[1:2]), *given[2:]]
    sys.argv = [f"attnbench {given[0]}", *given[1:]]
    return int(get_main_function(given[0])())


def get_main_function(verb: str) -> Callable[[], int]:
    """Return the function that runs a verb with the arguments of the process."""
    main_function: Callable[[], int] = importlib.import_module(f"attnbench.{verb.replace('-', '_')}").main
    return main_function


def format_help() -> str:
    """Return the list of commands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {verb:{width}}  {description}" for verb, description in COMMANDS.items()]
    return "\n".join(["usage: attnbench COMMAND ... (attnbench COMMAND --help for its options)", "", *lines])


if __name__ == "__main__":
    from attnbench.process.output import exit_process

    exit_process(main())
