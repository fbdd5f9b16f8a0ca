"""Figures in table.yaml: kinds, options of each kind, and checks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from attnbench.records.history import AXIS_KEYS
from attnbench.records.record import RecordError
from attnbench.reporting.keys import EXPECTED_PATH, RECORD_FIELDS, Best, RowKey


class FigureKind(Enum):
    """Kind of figure, by what stands along its axes."""

    bins = "bins"  # x: bins (of lengths, or layers) at the * in y's key
    lines = "lines"  # x: values of a config key
    curves = "curves"  # x: progress of training
    pareto = "pareto"  # x: another number of the record, such as a cost
    heatmap = "heatmap"  # x and rows: values of two config keys; y as a color
    attention = "attention"  # attention of each layer and head for one example, runs side by side


@dataclass(frozen=True)
class _KindOptions:
    """Options that a kind accepts beyond those of all kinds."""

    x: str | None = None  # description of x; None: the kind has no x
    options: frozenset[str] = frozenset()
    group: bool = False  # whether group must be given


_LOGS = frozenset({"log", "log_y"})
_KIND_OPTIONS = {
    FigureKind.bins: _KindOptions(options=frozenset({"log_y", "min_count"})),
    FigureKind.lines: _KindOptions("a config key", _LOGS),
    FigureKind.curves: _KindOptions(f"one of {', '.join(AXIS_KEYS)}", _LOGS | {"smooth"}),
    FigureKind.pareto: _KindOptions(f"a place in the record that begins with {', '.join(sorted(RECORD_FIELDS))}",
                              _LOGS | {"best", "best_x"}),
    FigureKind.heatmap: _KindOptions("a config key", frozenset({"digits"}), group=True),
    FigureKind.attention: _KindOptions(),
}  # fmt: skip


@dataclass(frozen=True)
class FigureLayout:
    """Figure beside the table: one line for each setting of all config keys except the seed."""

    name: str  # its files are <name>.pdf and <name>.png
    kind: FigureKind
    # A place in a record, such as metrics.test.bleu or, for bins, metrics.test.by_source_words.*.bleu; curves: a number
    # that is kept while training, such as val/bleu; attention: name of a picture that runs save, such as cross-0.
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
    smooth: int = 1  # curves: window of the running mean
    best: Best = Best.max  # pareto: which end of y is better
    best_x: Best = Best.min  # pareto: which end of x is better
    min_count: int = 30  # bins: neighbors are merged until each has at least so many sentences; 1: no merging
    digits: int | None = None  # heat: of the numbers in the cells; null: 2, and whole numbers whole

    @property
    def setting_keys(self) -> list[RowKey]:
        """Config keys that separate the points of the figure."""
        return [*self.group, RowKey(self.x or "")] if self.has_config_key_axis else self.group

    @property
    def has_config_key_axis(self) -> bool:
        """True if the x axis is a config key."""
        return self.kind in (FigureKind.lines, FigureKind.heatmap)

    def find_fault(self) -> str | None:
        """Find a wrong option.

        Returns:
            A sentence about the fault; None if there is none.
        """
        takes, kind = _KIND_OPTIONS[self.kind], self.kind.name
        if re.fullmatch(r"[\w-]+", self.name) is None:
            return "name: expected letters, digits, - and _"
        if (self.x is None) is not (takes.x is None):
            return f"x: given {_format_given(self.x)}, and kind {kind} expects {takes.x or 'none'}"
        for option in _OPTIONS:
            if option.name not in takes.options and getattr(self, option.name) != option.default:
                has = ", ".join(
                    sorted(other.name for other in FigureKind if option.name in _KIND_OPTIONS[other].options)
                )
                given = _format_given(getattr(self, option.name))
                return f"{option.name}: given {given}, and kind {kind} has none: {has} has"
        if takes.group and not self.group:
            return f"group: given none, and kind {kind} expects config keys, whose values make a row each"
        if self.smooth < 1:
            return f"smooth: given {self.smooth}, expected 1 (as it is) or how many numbers are averaged"
        if self.min_count < 1:
            return f"min_count: given {self.min_count}, expected 1 (no bins are merged) or more"
        return self._find_wrong_path()

    def _find_wrong_path(self) -> str | None:
        """Return a sentence if y or x is not a path of a record, else None."""
        if self.kind is FigureKind.curves:
            return None if self.x in AXIS_KEYS else f"x: given {self.x}, expected {_KIND_OPTIONS[self.kind].x}"
        if self.kind is FigureKind.attention:
            fits = re.fullmatch(r"[\w-]+", self.y) is not None
            return None if fits else f"y: given {self.y}, expected a picture's name, such as cross-0 or attention-0"
        if self.y.partition(".")[0] not in RECORD_FIELDS:
            return f"y: {self.y}: {EXPECTED_PATH}"
        wanted = 1 if self.kind is FigureKind.bins else 0
        if self.y.split(".").count("*") != wanted:
            return f"y: {self.y}: kind {self.kind.name} expects {'one' if wanted else 'no'} * in it"
        if self.kind is FigureKind.pareto and (self.x or "").partition(".")[0] not in RECORD_FIELDS:
            return f"x: {self.x}: {EXPECTED_PATH}"
        return None


# Keys of FigureLayout that not every kind takes.
_OPTIONS = [
    option for option in fields(FigureLayout) if any(option.name in takes.options for takes in _KIND_OPTIONS.values())
]


def check_figures(figures: Sequence[FigureLayout], path: Path) -> None:
    """Check the figures of table.yaml.

    Args:
        figures: entries of `figures`.
        path: path of table.yaml, for error messages.

    Raises:
        RecordError: a figure cannot be drawn; the message names the figure and the wrong key.
    """
    for index, figure in enumerate(figures):
        twice = figure.name in [other.name for other in figures[:index]]
        fault = "name: another figure has it" if twice else figure.find_fault()
        if fault is not None:
            raise RecordError(f"{path}: figures[{index}]: {figure.name}: {fault}")


def _format_given(value: Any) -> str:
    if isinstance(value, Enum):
        return value.name
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
