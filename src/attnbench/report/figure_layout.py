"""What table.yaml says of figures: their kinds, what each kind expects, and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from attnbench.record import RecordError
from attnbench.report.keys import EXPECTED, ROOTS, RowKey


class FigureKind(Enum):
    """What stands along the axis of a figure."""

    bins = "bins"  # what stands at the * in y's key: bins of lengths, or layers
    lines = "lines"  # the values of a config key


@dataclass(frozen=True)
class FigureLayout:
    """A drawing beside the table, a line for each setting of everything but the seed."""

    name: str  # its files are <name>.pdf and <name>.png
    kind: FigureKind
    y: str  # a place in a record: metrics.test.bleu, or metrics.test.by_source_words.*.bleu
    x: str | None = None  # lines: a config key
    group: list[RowKey] = field(default_factory=list)  # whose values make a line each; none: every key that differs
    where: dict[str, Any] = field(default_factory=dict)  # config key: value; other runs are left out
    title: str | None = None  # null: none
    x_label: str | None = None  # null: the key's last part, or the mapping's name
    y_label: str | None = None  # null: the key's last part
    log: bool = False  # lines: a logarithmic axis
    log_y: bool = False

    @property
    def keys(self) -> list[RowKey]:
        """The config keys that part its points."""
        return self.group if self.x is None else [*self.group, RowKey(self.x)]

    def fault(self) -> str | None:
        """What cannot be drawn, in words, or None."""
        if re.fullmatch(r"[\w-]+", self.name) is None:
            return "name: expected letters, digits, - and _"
        if self.y.partition(".")[0] not in ROOTS:
            return f"y: {self.y}: {EXPECTED}"
        wanted = 1 if self.kind is FigureKind.bins else 0
        if self.y.split(".").count("*") != wanted:
            return f"y: {self.y}: kind {self.kind.name} expects {'one' if wanted else 'no'} * in it"
        if (self.x is None) is not (self.kind is FigureKind.bins):
            return "x: lines has one, bins has none"
        if self.log and self.x is None:
            return "log: bins has no numbers along its axis"
        return None


def check_figures(figures: Sequence[FigureLayout], path: Path) -> None:
    """Refuse what cannot be drawn.

    Raises:
        RecordError: names `path`, the figure and its key that is wrong.
    """
    for index, figure in enumerate(figures):
        twice = figure.name in [other.name for other in figures[:index]]
        fault = "name: another figure has it" if twice else figure.fault()
        if fault is not None:
            raise RecordError(f"{path}: figures[{index}]: {figure.name}: {fault}")
