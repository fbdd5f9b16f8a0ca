"""What a sweep says while it runs: lines as things happen and, on a terminal, a table below them that is kept true."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from attnbench.process.output import supports_cursor_control
from attnbench.records.record import FailureReason, read_progress

_SHOWN = 12  # running runs in the table


class Outcome(Enum):
    """What became of a job."""

    finished = "finished"
    skipped = "skipped"  # finished before, or by another command
    pruned = "pruned"  # by a search
    failed = "failed"
    interrupted = "interrupted"


def titles(overrides: Sequence[Sequence[str]]) -> list[str]:
    """What to call each job of a sweep: the overrides that not all of them share."""
    shared = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set()
    return [" ".join(item for item in one if item not in shared) for one in overrides]


def lasted(seconds: float) -> str:
    """A time, as long as it takes to know it: 5 s, 12.0 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def progress_text(folder: Path) -> str:
    """How far the run in a folder says it has come."""
    found = read_progress(folder)
    if found is None:
        return ""
    update, of = found
    return f"update {update}" if of is None else f"update {update} of {of} ({update / of:.0%})"


def why(error: Mapping[str, str], output: Sequence[str] = ()) -> list[str]:
    """Return the last lines of an error's traceback or, where it has none, of the run's output.

    None where the error's sentence says all: files that cannot be written, a config or data that is refused.
    """
    if error.get("kind") in (FailureReason.disk_full, FailureReason.not_writable, FailureReason.refused):
        return []
    text = error.get("traceback", "")
    lines = text.splitlines()[-6:] if text else list(output)
    return [f"    {line}" for line in lines]


_DONE = (Outcome.finished, Outcome.skipped, Outcome.pruned)


@dataclass
class Counts:
    """What has become of a sweep's runs so far."""

    total: int
    outcomes: dict[int, Outcome] = field(default_factory=dict)  # by a job's number, of those that are settled
    seconds: list[float] = field(default_factory=list)  # that each run took which ended here

    @property
    def done(self) -> int:
        """Those nobody has to look at again."""
        return sum(outcome in _DONE for outcome in self.outcomes.values())

    @property
    def failed(self) -> int:
        """Those that are settled and not done."""
        return len(self.outcomes) - self.done

    def in_order(self) -> list[Outcome]:
        """What became of each job, by number."""
        return [self.outcomes[number] for number in sorted(self.outcomes)]

    def line(self, running: Sequence[float], workers: int) -> str:
        """The totals, with an estimate of what is left; `running`: seconds that each running run has taken."""
        left = max(0, self.total - self.done - self.failed - len(running))
        said = f"{self.total} runs: {self.done} done, {len(running)} running, {self.failed} failed, {left} left"
        if not self.seconds:
            return said
        each = sum(self.seconds) / len(self.seconds)
        ahead = left * each + sum(max(0.0, each - seconds) for seconds in running)
        return f"{said}; about {lasted(ahead / max(1, min(workers, left + len(running))))} to the end"


@dataclass(frozen=True)
class Running:
    """A run that goes on: its row of the table."""

    label: str
    title: str
    folder: Path
    seconds: float

    def __str__(self) -> str:
        return "  ".join(filter(None, (self.label, self.title, progress_text(self.folder), lasted(self.seconds))))


class Board:
    """Prints lines; on a terminal with a table below them, drawn anew with each line and each `draw`."""

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self.live = tell is None and supports_cursor_control(sys.stdout)
        self._tell = tell or _print
        self._table: list[str] = []

    def line(self, text: str) -> None:
        """Say something that stays."""
        if not self.live:
            self._tell(text)
            return
        sys.stdout.write(self._erased() + text + "\n" + self._drawn())
        sys.stdout.flush()

    def draw(self, totals: str = "", running: Sequence[Running] = ()) -> None:
        """Let the table say this; without arguments it goes."""
        if not self.live:
            return
        width = shutil.get_terminal_size().columns - 1
        erased = self._erased()
        rows = [str(run) for run in running[:_SHOWN]]
        if len(running) > _SHOWN:
            rows.append(f"... and {len(running) - _SHOWN} more")
        self._table = [row[:width] for row in ([totals, *rows] if totals else [])]
        sys.stdout.write(erased + self._drawn())
        sys.stdout.flush()

    def _erased(self) -> str:
        return f"\x1b[{len(self._table)}F\x1b[J" if self._table else ""

    def _drawn(self) -> str:
        return "".join(f"{row}\n" for row in self._table)


def _print(text: str) -> None:
    print(text, flush=True)
