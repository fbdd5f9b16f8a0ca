"""What table.yaml says of figures: their kinds, what each kind takes, and what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from attnbench.records.history import AXIS_KEYS
from attnbench.records.record import RecordError
from attnbench.reporting.keys import EXPECTED, ROOTS, Best, RowKey


class FigureKind(Enum):
    """What stands along the axes of a figure."""

    bins = "bins"  # what stands at the * in y's key: bins of lengths, or layers
    lines = "lines"  # the values of a config key
    curves = "curves"  # how far training has come
    pareto = "pareto"  # another number of the record: what the one costs of the other
    heat = "heat"  # the values of two config keys, and y as a colour
    atlas = "atlas"  # attention of each layer and head over one example, runs side by side


@dataclass(frozen=True)
class _Takes:
    """What a kind expects of table.yaml, beyond what all take."""

    x: str | None = None  # what it is, in words; None: there is none
    options: frozenset[str] = frozenset()
    group: bool = False  # whether group must be given


_LOGS = frozenset({"log", "log_y"})
_TAKES = {
    FigureKind.bins: _Takes(options=frozenset({"log_y", "min_count"})),
    FigureKind.lines: _Takes("a config key", _LOGS),
    FigureKind.curves: _Takes(f"one of {', '.join(AXIS_KEYS)}", _LOGS | {"smooth"}),
    FigureKind.pareto: _Takes(f"a place in the record that begins with {', '.join(sorted(ROOTS))}",
                              _LOGS | {"best", "best_x"}),
    FigureKind.heat: _Takes("a config key", frozenset({"digits"}), group=True),
    FigureKind.atlas: _Takes(),
}  # fmt: skip


@dataclass(frozen=True)
class FigureLayout:
    """A drawing beside the table, a line for each setting of everything but the seed."""

    name: str  # its files are <name>.pdf and <name>.png
    kind: FigureKind
    # A place in a record, such as metrics.test.bleu or, for bins, metrics.test.by_source_words.*.bleu; curves: a number
    # that is kept while training, such as val/bleu; atlas: a picture that runs keep, such as cross-0 or attention-0.
    y: str
    x: str | None = None  # lines, heat: a config key; curves: update, seconds, ...; pareto: a place in a record
    # Whose values make a line each, or a row of a heat map. None: every key that differs. Of pareto, keys that
    # differ and stand not here name the points.
    group: list[RowKey] = field(default_factory=list)
    where: dict[str, Any] = field(default_factory=dict)  # config key: value; other runs are left out
    title: str | None = None  # null: none
    x_label: str | None = None  # null: the key's last part, or the mapping's name
    y_label: str | None = None  # null: the key's last part
    log: bool = False  # lines, curves, pareto: a logarithmic axis
    log_y: bool = False
    smooth: int = 1  # curves: what is shown is the mean of a number and those before it, so many together
    best: Best = Best.max  # pareto: which end of y is better
    best_x: Best = Best.min  # pareto: which end of x is better
    min_count: int = 30  # bins: neighbours are merged until each has so many sentences; 1: as they are in the records
    digits: int | None = None  # heat: of the numbers in the cells; null: 2, and whole numbers whole

    @property
    def keys(self) -> list[RowKey]:
        """The config keys that part its points."""
        return [*self.group, RowKey(self.x or "")] if self.by_key else self.group

    @property
    def by_key(self) -> bool:
        """Whether a config key stands along the axis."""
        return self.kind in (FigureKind.lines, FigureKind.heat)

    def fault(self) -> str | None:
        """What cannot be drawn, in words, or None."""
        takes, kind = _TAKES[self.kind], self.kind.name
        if re.fullmatch(r"[\w-]+", self.name) is None:
            return "name: expected letters, digits, - and _"
        if (self.x is None) is not (takes.x is None):
            return f"x: given {_given(self.x)}, and kind {kind} expects {takes.x or 'none'}"
        for option in _OPTIONS:
            if option.name not in takes.options and getattr(self, option.name) != option.default:
                has = ", ".join(sorted(other.name for other in FigureKind if option.name in _TAKES[other].options))
                return f"{option.name}: given {_given(getattr(self, option.name))}, and kind {kind} has none: {has} has"
        if takes.group and not self.group:
            return f"group: given none, and kind {kind} expects config keys, whose values make a row each"
        if self.smooth < 1:
            return f"smooth: given {self.smooth}, expected 1 (as it is) or how many numbers are averaged"
        if self.min_count < 1:
            return f"min_count: given {self.min_count}, expected 1 (no bins are merged) or more"
        return self._wrong_place()

    def _wrong_place(self) -> str | None:
        """A y or x where nothing can be found."""
        if self.kind is FigureKind.curves:
            return None if self.x in AXIS_KEYS else f"x: given {self.x}, expected {_TAKES[self.kind].x}"
        if self.kind is FigureKind.atlas:
            fits = re.fullmatch(r"[\w-]+", self.y) is not None
            return None if fits else f"y: given {self.y}, expected a picture's name, such as cross-0 or attention-0"
        if self.y.partition(".")[0] not in ROOTS:
            return f"y: {self.y}: {EXPECTED}"
        wanted = 1 if self.kind is FigureKind.bins else 0
        if self.y.split(".").count("*") != wanted:
            return f"y: {self.y}: kind {self.kind.name} expects {'one' if wanted else 'no'} * in it"
        if self.kind is FigureKind.pareto and (self.x or "").partition(".")[0] not in ROOTS:
            return f"x: {self.x}: {EXPECTED}"
        return None


# Keys of FigureLayout that not every kind takes.
_OPTIONS = [option for option in fields(FigureLayout) if any(option.name in takes.options for takes in _TAKES.values())]


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


def _given(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
