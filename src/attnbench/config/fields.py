"""Typed config fields with bounds, and the function that finds all faults of a config."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any

_BOUNDS_KEY = "attnbench.bounds"
_PATH_KEY = "attnbench.path"
_CHECK_KEY = "attnbench.check"

# Counters and indices in kernels have 32 bits, and C code is given many of these numbers.
MAX_INT = 2**31 - 1
# numpy and Lightning take seeds of 32 bits.
MAX_SEED = 2**32 - 1
# A model of one layer of this width has more parameters than any machine has memory for; beyond it, sizes overflow.
MAX_WIDTH = 2**16
# Wang et al. 2022 train 1,000 layers, the deepest Transformer that has been published.
MAX_DEPTH = 1000
# A year. What takes minutes becomes a timedelta, which ends at 1.4e12 minutes, and a run may begin again.
MAX_MINUTES = 366 * 24 * 60

_MAX_SHOWN_LENGTH = 120  # characters of a value in a sentence
_TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list, as in [a,b]",
}
# Control characters, halves of pairs, and separators of lines: terminals, pages and file formats act on them.
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of a config: the full key, the given value, and what was expected."""

    key: str
    given: str
    expected: str

    def __str__(self) -> str:
        key, given = _shorten_text(self.key), _shorten_text(self.given)
        return f"{key}={given}: {self.expected}" if given else f"{key}: {self.expected}"


def _shorten_text(text: str) -> str:
    """Return what a user gave as it can stand in a sentence: without what cannot be seen, and not endless."""
    seen = "".join(letter if unicodedata.category(letter) not in _INVISIBLE_CATEGORIES else "\ufffd" for letter in text)
    return (
        seen
        if len(seen) <= _MAX_SHOWN_LENGTH
        else f"{seen[: _MAX_SHOWN_LENGTH // 2]}...{seen[-_MAX_SHOWN_LENGTH // 2 :]}"
    )


class ConfigError(Exception):
    """Raised for an invalid config; holds all faults, one line each."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Interval, open or closed, that a number must lie in."""

    minimum: float | None = None
    greater_than: float | None = None
    maximum: float | None = None
    less_than: float | None = None

    def contains(self, value: float) -> bool:
        """Check whether `value` lies inside; NaN and infinity never do."""
        return (
            not math.isnan(value)
            and abs(value) != math.inf
            and (self.minimum is None or value >= self.minimum)
            and (self.greater_than is None or value > self.greater_than)
            and (self.maximum is None or value <= self.maximum)
            and (self.less_than is None or value < self.less_than)
        )

    def __str__(self) -> str:
        named = {"at least": self.minimum, "above": self.greater_than, "at most": self.maximum, "below": self.less_than}
        parts = [f"{name} {_format_number(end)}" for name, end in named.items() if end is not None]
        return "expected a number " + " and ".join(parts)


def _format_number(number: float) -> str:
    return f"{number:d}" if isinstance(number, int) else f"{number:g}"


def bounded_field(
    default: Any,
    *,
    minimum: float | None = None,
    greater_than: float | None = None,
    maximum: float | None = None,
    less_than: float | None = None,
) -> Any:
    """Build a dataclass field for a number with bounds; None passes where the annotation allows it.

    Whole numbers without an upper bound may be `MAX_INT` at most, and no number may be infinite.
    """
    bounds = Bounds(minimum, greater_than, maximum, less_than)
    return dataclasses.field(default=default, metadata={_BOUNDS_KEY: bounds})


def describe_bounds(field: dataclasses.Field[Any]) -> str:
    """Return the bounds of a field, such as `at least 1 and below 10`; empty if there are none."""
    return str(field.metadata.get(_BOUNDS_KEY, "")).removeprefix("expected a number ")


def seed_field(default: int) -> Any:
    """Build a dataclass field for the seed of a random generator."""
    return bounded_field(default, minimum=0, maximum=MAX_SEED)


def path_field(default: str | None) -> Any:
    """Build a dataclass field for a file or folder."""
    return dataclasses.field(default=default, metadata={_PATH_KEY: True})


def build_check(check: Callable[[str], str | None]) -> dict[str, Any]:
    """Build the metadata of a dataclass field whose text, or each of its texts, is checked.

    Args:
        check: returns a sentence about what is wrong with a text, or None.
    """
    return {_CHECK_KEY: check}


def is_path_field(field: dataclasses.Field[Any]) -> bool:
    """Check whether a field is for a file or folder."""
    return bool(field.metadata.get(_PATH_KEY))


def describe_type(hint: Any) -> str:
    """Return in words what a field with the annotation `hint` takes."""
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return " or ".join("null" if one is NoneType else describe_type(one) for one in typing.get_args(hint))
    kind = typing.get_origin(hint) or hint
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(sorted(member.name for member in kind))}"
    return _TYPE_NAMES.get(kind, "keys with values")


@functools.cache
def get_type_hints(kind: type) -> Mapping[str, Any]:
    """Return the annotations of a dataclass, evaluated."""
    return typing.get_type_hints(kind)


def _matches_type(value: Any, hint: Any) -> bool:
    """Check a value against an annotation: an interpolation may bring a value of another type."""
    if hint is Any:
        return True
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return any(_matches_type(value, one) for one in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        (item,) = typing.get_args(hint)
        return isinstance(value, list) and all(_matches_type(one, item) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def find_faults(node: Any, prefix: str = "") -> Iterator[Fault]:
    """Find all faults of a config dataclass and its nested dataclasses.

    Types and bounds come first, then the faults that `find_faults` of each class yields. A dataclass may define
    `find_faults(self) -> Iterator[Fault]` for conditions between fields; keys in these faults are relative to the
    dataclass.

    Args:
        node: config dataclass.
        prefix: key of `node` with a final dot.
    """
    broken, is_wrong_below = False, False
    kind: type = type(node)
    hints = get_type_hints(kind)
    for field in dataclasses.fields(node):
        value, key = getattr(node, field.name), prefix + field.name
        expected = _check_value(value, field, hints[field.name])
        if expected is not None:
            broken = True
            yield Fault(key, f"{value}", expected)
        elif dataclasses.is_dataclass(value):
            for fault in find_faults(value, key + "."):
                is_wrong_below = True
                yield fault
    # A pair is only worth judging when each of its numbers is: depth=0 should not also divide by it.
    if not broken and hasattr(node, "find_faults"):
        try:
            for fault in node.find_faults():
                yield Fault(prefix + fault.key, fault.given, fault.expected)
        except (ArithmeticError, AttributeError, TypeError, ValueError):
            if not is_wrong_below:  # else what is below cannot be reckoned with
                raise


def _accept(text: str) -> None:
    """Find no fault."""


def _check_value(value: Any, field: dataclasses.Field[Any], hint: Any) -> str | None:
    """Return what was expected of a field that has not got it."""
    if not _matches_type(value, hint):
        return f"expected {describe_type(hint)}"
    bounds = field.metadata.get(_BOUNDS_KEY)
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str) and any(unicodedata.category(letter) in _INVISIBLE_CATEGORIES for letter in item):
            return "expected text without control characters"
        if isinstance(item, str) and (fault := field.metadata.get(_CHECK_KEY, _accept)(item)) is not None:
            return str(fault)
        if type(item) is int and item > MAX_INT and (bounds is None or bounds.maximum is None):
            return str(Bounds(maximum=MAX_INT))
    if bounds is not None and value is not None and not bounds.contains(value):
        return f"{bounds}{' and finite' if abs(value) == math.inf and bounds.maximum is None else ''}"
    if is_path_field(field) and isinstance(value, str) and value.startswith("~"):
        return "expected a whole path: ~ stands for the home folder only where the shell sees it, as in $HOME/runs"
    return None
