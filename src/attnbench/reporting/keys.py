"""Config keys and their values, as table.yaml names them, and what a place in a record begins with."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from attnbench.records.record import Record

ROOTS = frozenset(field.name for field in fields(Record))
EXPECTED = f"expected a path that begins with {', '.join(sorted(ROOTS))}"


class Best(Enum):
    """Which end of numbers is better."""

    max = "max"
    min = "min"


@dataclass(frozen=True)
class RowKey:
    """A config key, such as model.num_heads, whose values name the rows, or the lines of a figure."""

    key: str
    label: str | None = None  # null: the key
    values: dict[Any, str] = field(default_factory=dict)  # what a value is called; these come first, in this order

    def text(self, value: Any) -> str:
        """What a config value is called: its name here, else as it is typed."""
        named = [name for asked, name in self.values.items() if same(value, asked)]
        if named:
            return named[0]
        if value is None:
            return "null"
        return str(value).lower() if isinstance(value, bool) else str(value)

    def rank(self, value: Any) -> int:
        """The place of a value among those that have a name here, or the one behind them."""
        return next((place for place, asked in enumerate(self.values) if same(value, asked)), len(self.values))


def same(ours: Any, asked: Any) -> bool:
    """Equality; YAML 1.1 takes 1e-3 for text, and true is no 1."""
    if isinstance(asked, str) and isinstance(ours, float):
        try:
            return ours == float(asked)
        except ValueError:
            return False
    return isinstance(ours, bool) == isinstance(asked, bool) and bool(ours == asked)
