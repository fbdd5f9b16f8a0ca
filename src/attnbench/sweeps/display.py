"""Terminal output of a sweep: lines for events and, on a terminal, a live table below them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from attnbench.process.output import supports_cursor_control
from attnbench.records.record import FailureReason, read_progress

_MAX_ROWS = 12  # running runs in the table


class Outcome(Enum):
    """Outcome of a run."""

    finished = "finished"
    skipped = "skipped"  # finished before, or by another command
    pruned = "pruned"  # by a search
    failed = "failed"
    interrupted = "interrupted"


def build_run_labels(overrides: Sequence[Sequence[str]]) -> list[str]:
    """Build a label for each run: the overrides that not all runs share."""
    shared = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(item for item in one if item not in shared) for one in overrides]


def format_duration(seconds: float) -> str:
    """Format a duration with suitable precision: 5 s, 12.0 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def format_progress(folder: Path) -> str:
    """Format the progress of the run in a folder, from its progress file."""
    found = read_progress(folder)
    if found is None:
        return ""
    update, of = found
    return f"update {update}" if of is None else f"update {update} of {of} ({update / of:.0%})"


def extract_error_lines(error: Mapping[str, str], output: Sequence[str] = ()) -> list[str]:
    """Extract the last lines of an error's traceback or, if it has none, of the run's output.

    Args:
        error: `error` of a record.
        output: last lines that the run printed.

    Returns:
        Lines to print; none if the error's message is enough (unwritable files, refused configs or data).
    """
    if error.get("kind") in (FailureReason.disk_full, FailureReason.not_writable, FailureReason.refused):
        return []
    text = error.get("traceback", "")
    lines = text.splitlines()[-6:] if text else list(output)
    return [f"    {line}" for line in lines]


_DONE_OUTCOMES = (Outcome.finished, Outcome.skipped, Outcome.pruned)


@dataclass
class Counts:
    """Outcomes of a sweep's runs so far."""

    total: int
    outcomes: dict[int, Outcome] = field(default_factory=dict)  # outcome by number, for settled runs
    seconds: list[float] = field(default_factory=list)  # seconds of each run that ended in this command

    @property
    def num_done(self) -> int:
        """Number of runs that finished, were skipped or were pruned."""
        return sum(outcome in _DONE_OUTCOMES for outcome in self.outcomes.values())

    @property
    def num_failed(self) -> int:
        """Number of runs that ended otherwise."""
        return len(self.outcomes) - self.num_done

    def list_outcomes(self) -> list[Outcome]:
        """Return the outcome of each run, by number."""
        return [self.outcomes[number] for number in sorted(self.outcomes)]

    def format_totals(self, running: Sequence[float], workers: int) -> str:
        """Format the totals, with an estimate of the remaining time.

        Args:
            running: seconds that each running run has taken.
            workers: number of runs at once.
        """
        left = max(0, self.total - self.num_done - self.num_failed - len(running))
        text = f"{self.total} runs: {self.num_done} done, {len(running)} running, {self.num_failed} failed, {left} left"
        if not self.seconds:
            return text
        each = sum(self.seconds) / len(self.seconds)
        ahead = left * each + sum(max(0.0, each - seconds) for seconds in running)
        return f"{text}; about {format_duration(ahead / max(1, min(workers, left + len(running))))} remaining"


@dataclass(frozen=True)
class RunningRun:
    """A running run: its row of the live table."""

    label: str
    title: str
    folder: Path
    seconds: float

    def __str__(self) -> str:
        return "  ".join(
            filter(None, (self.label, self.title, format_progress(self.folder), format_duration(self.seconds)))
        )


class LiveTable:
    """Prints lines; on a terminal, with a live table below them."""

    def __init__(self, print_function: Callable[[str], None] | None = None) -> None:
        self.live = print_function is None and supports_cursor_control(sys.stdout)
        self._print_function = print_function or _print_to_stdout
        self._table: Live | None = None  # while it is shown

    def print_line(self, text: str) -> None:
        """Print a line above the table."""
        if self._table is None:
            self._print_function(text)
        else:
            self._table.console.print(text, soft_wrap=True)
            self._table.refresh()

    def update(self, totals: str = "", running: Sequence[RunningRun] = ()) -> None:
        """Update the table; without arguments, remove it.

        Args:
            totals: line with totals.
            running: running runs.
        """
        if not self.live:
            return
        if not totals:
            if self._table is not None:
                self._table.stop()
                self._table = None
            return
        rows = [totals, *map(str, running[:_MAX_ROWS])]
        if len(running) > _MAX_ROWS:
            rows.append(f"... and {len(running) - _MAX_ROWS} more")
        if self._table is None:
            self._table = _start_table()
        self._table.update(Text("\n".join(rows), no_wrap=True, overflow="ellipsis"), refresh=True)


def _start_table() -> Live:
    """Show an empty table; it is removed from the terminal when it stops."""
    console = Console(markup=False, emoji=False, highlight=False, color_system=None)
    table = Live(
        console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    )  # no thread, since processes are forked while the table is shown
    table.start()
    return table


def _print_to_stdout(text: str) -> None:
    print(text, flush=True)
