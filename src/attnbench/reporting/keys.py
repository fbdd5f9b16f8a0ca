"""Config keys and values as table.yaml writes them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from attnbench.records.record import Record

RECORD_FIELDS = frozenset(field.name for field in fields(Record))
EXPECTED_PATH = f"expected a path that begins with {', '.join(sorted(RECORD_FIELDS))}"


class Best(Enum):
    """Direction in which a number is better."""

    max = "max"
    min = "min"


@dataclass(frozen=True)
class RowKey:
    """Config key, such as model.num_heads, whose values part the rows of a table or the lines of a figure."""

    key: str
    label: str | None = None  # null: the key
    values: dict[Any, str] = field(default_factory=dict)  # names of values; these values come first, in this order

    def format_value(self, value: Any) -> str:
        """Return the printed form of a config value: its name in `values`, else as it is written in YAML."""
        named = [name for expected, name in self.values.items() if values_equal(value, expected)]
        if named:
            return named[0]
        if value is None:
            return "null"
        return str(value).lower() if isinstance(value, bool) else str(value)

    def get_sort_position(self, value: Any) -> int:
        """Return the position of a value in `values`; values without a name share the position behind them."""
        return next(
            (place for place, expected in enumerate(self.values) if values_equal(value, expected)), len(self.values)
        )


def values_equal(ours: Any, expected: Any) -> bool:
    """Return True if a config value equals a value of table.yaml.

    YAML 1.1 reads 1e-3 as text, so that text is compared as a number too; true does not equal 1.
    """
    if isinstance(expected, str) and isinstance(ours, float):
        try:
            return ours == float(expected)
        except ValueError:
            return False
    return isinstance(ours, bool) == isinstance(expected, bool) and bool(ours == expected)
