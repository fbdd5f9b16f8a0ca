"""Typed fields that know their bounds, and the walk that collects every fault of a config."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_CHECK = "attnbench.bounds"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a config: the full key, what was given and what was expected."""

    key: str
    given: str
    expected: str

    def __str__(self) -> str:
        return f"{self.key}={self.given}: {self.expected}" if self.given else f"{self.key}: {self.expected}"


class ConfigError(Exception):
    """A config that is refused; carries every fault found, one line each."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


@dataclass(frozen=True, slots=True)
class Bounds:
    """The closed or open interval a number must lie in."""

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None

    def admits(self, value: float) -> bool:
        """Whether `value` lies inside; NaN never does."""
        return (
            not math.isnan(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        parts = []
        if self.at_least is not None:
            parts.append(f"at least {self.at_least:g}")
        if self.above is not None:
            parts.append(f"above {self.above:g}")
        if self.at_most is not None:
            parts.append(f"at most {self.at_most:g}")
        if self.below is not None:
            parts.append(f"below {self.below:g}")
        return "expected a number " + " and ".join(parts)


def number(
    default: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> Any:
    """A dataclass field for a number with bounds; None passes where the annotation allows it."""
    bounds = Bounds(at_least, above, at_most, below)
    return dataclasses.field(default=default, metadata={_CHECK: bounds})


def faults_of(node: Any, prefix: str = "") -> Iterator[Fault]:
    """Every fault of a config dataclass and of what it holds: bounds first, then its own `faults`.

    A dataclass may define `faults(self) -> Iterator[Fault]` for what one field cannot know alone;
    the keys it names are relative to itself.
    """
    broken = False
    for field in dataclasses.fields(node):
        value, key = getattr(node, field.name), prefix + field.name
        bounds = field.metadata.get(_CHECK)
        if bounds is not None and value is not None and not bounds.admits(value):
            broken = True
            yield Fault(key, f"{value}", str(bounds))
        if dataclasses.is_dataclass(value):
            yield from faults_of(value, key + ".")
    # A pair is only worth judging when each of its numbers is: depth=0 should not also divide by it.
    if not broken and hasattr(node, "faults"):
        for fault in node.faults():
            yield Fault(prefix + fault.key, fault.given, fault.expected)
