"""Search spaces from swept overrides, and random draws from them; equal seeds give equal draws."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from attnbench.config import Fault
from attnbench.sweeps.override_errors import format_typed_value

RANDOM = "hydra_plugins.attnbench_sweeper.RandomSweeper"
OPTUNA = "hydra_plugins.attnbench_sweeper.OptunaSweeper"
_SIGNIFICANT_DIGITS = 4  # significant digits of a drawn number, so that the value that is shown is the one that is used


@dataclass
class GridOptions:
    """`hydra.sweeper` of hydra/sweeper=grid, the default: the options of Hydra's `basic`."""

    _target_: str = "hydra_plugins.attnbench_sweeper.GridSweeper"
    max_batch_size: int | None = None  # runs per batch; null: all
    params: dict[str, str] | None = None


@dataclass
class RandomOptions:
    """`hydra.sweeper` of hydra/sweeper=random."""

    _target_: str = RANDOM
    n_trials: int = 20  # number of draws; a larger number starts with the same draws
    seed: int = 1
    params: dict[str, str] | None = None  # as sweep=<name> gives them


@dataclass(frozen=True)
class Dimension:
    """Values of one key: a list of choices, or numbers in an interval or range, both ends included."""

    choices: tuple[str, ...] = ()  # text of each value
    low: float = 1.0
    high: float = 0.0
    is_integer: bool = False
    step: int = 1  # bounds are integers
    is_log: bool = False

    @classmethod
    def from_override(cls, override: Override) -> Dimension:
        """Build a dimension from the value of an override.

        Forms: `a,b`, `choice(a,b)`, `range(..)`, `interval(..)`, `int(interval(..))`, `tag(log, interval(..))`.
        """
        value = override.value()
        if isinstance(value, IntervalSweep):
            assert value.start is not None
            assert value.end is not None
            low, high = min(value.start, value.end), max(value.start, value.end)
            return cls(low=low, high=high, is_integer=isinstance(low, int), is_log="log" in value.tags)
        if isinstance(value, RangeSweep) and isinstance(value.range(), range):
            found = sorted(value.range())
            return cls(
                low=found[0], high=found[-1], is_integer=True, step=abs(int(value.step)), is_log="log" in value.tags
            )
        return cls(tuple(override.sweep_string_iterator()))

    def format_value(self, number: float) -> str:
        """Format a number of this dimension for an override."""
        if self.is_integer:
            return str(int(self.low) + self.step * round((number - self.low) / self.step))
        return str(min(max(float(f"{number:.{_SIGNIFICANT_DIGITS}g}"), self.low), self.high))

    def draw_value(self, generator: random.Random) -> str:
        """Draw a value: uniformly from choices and integers, and uniformly (or log-uniformly) from an interval."""
        part = generator.random()  # random() gives the same numbers in all versions of Python
        if self.choices:
            return self.choices[int(part * len(self.choices))]
        if self.is_log:
            number = math.exp(math.log(self.low) + part * (math.log(self.high) - math.log(self.low)))
        else:
            margin = (
                self.step / 2 if self.is_integer else 0.0
            )  # an integer represents the interval that is rounded to it
            number = self.low - margin + part * (self.high - self.low + 2 * margin)
        return self.format_value(min(max(number, self.low), self.high))

    @property
    def extreme_values(self) -> tuple[str, ...]:
        """Values that are checked in place of all values: the ends of an interval, or all choices."""
        return self.choices or (self.format_value(self.low), self.format_value(self.high))


class SearchSpace:
    """Searched keys, and the overrides that all runs share."""

    def __init__(self, overrides: Iterable[Override]) -> None:
        """Build the space; of two overrides of a key, the later one counts."""
        self.dimensions: dict[str, Dimension] = {}
        self._entries: dict[str, str] = {}
        for override in overrides:
            key = override.get_key_element()
            self.dimensions.pop(key, None)
            if override.is_sweep_override():
                self.dimensions[key] = Dimension.from_override(override)
            self._entries[key] = "" if override.is_sweep_override() else override.get_value_element_as_str()

    @property
    def fixed_overrides(self) -> list[str]:
        """Overrides of keys that are not searched."""
        return [f"{key}={value}" for key, value in self._entries.items() if key not in self.dimensions]

    def build_overrides(self, values: Mapping[str, str]) -> list[str]:
        """Return the overrides of one run."""
        return [f"{key}={values.get(key, value)}" for key, value in self._entries.items()]

    def draw_values(self, count: int, seed: int) -> list[dict[str, str]]:
        """Draw the values of `count` runs; fewer draws are a prefix of more draws.

        Args:
            count: number of runs.
            seed: seed of the search.
        """
        generator = random.Random(seed)
        return [{key: one.draw_value(generator) for key, one in self.dimensions.items()} for _ in range(count)]

    def iterate_extremes(self) -> Iterator[dict[str, str]]:
        """Yield each extreme value of each key, with the other keys at their first value."""
        first = {key: one.extreme_values[0] for key, one in self.dimensions.items()}
        yield first
        for key, one in self.dimensions.items():
            yield from (first | {key: value} for value in one.extreme_values[1:])


def _find_faults(overrides: Iterable[Override]) -> list[Fault]:
    """Return the faults of overrides that cannot be drawn from."""
    found = []
    for override in overrides:
        value = override.value()
        if (
            isinstance(value, IntervalSweep | RangeSweep)
            and "log" in value.tags
            and Dimension.from_override(override).low <= 0
        ):
            expected = "expected numbers above 0: it is drawn by its logarithm"
            found.append(Fault(override.key_or_group, format_typed_value(override), expected))
    return found


def plan_search(
    sweeper: Any, overrides: Sequence[Override]
) -> tuple[list[list[str]], list[list[str]], list[Fault]] | None:
    """Plan a search.

    Args:
        sweeper: composed `hydra.sweeper`.
        overrides: swept overrides, and those that all runs share.

    Returns:
        Overrides of the runs that are known in advance, of further combinations to check, and faults; None if the
        sweeper is not one of attnbench's searches.
    """
    target = sweeper.get("_target_")
    if target not in (RANDOM, OPTUNA):
        return None
    wrong = _find_faults(overrides)
    beforehand = sweeper.n_trials
    if target == OPTUNA and sweeper.sampler.name != "random":
        beforehand = min(sweeper.startup, sweeper.n_trials)
    if beforehand < 1:
        key = "n_trials" if sweeper.n_trials < 1 else "startup"
        wrong.append(Fault(f"hydra.sweeper.{key}", str(sweeper[key]), "expected at least 1"))
    space = SearchSpace(overrides)
    if wrong:
        return [], [], wrong
    first = [space.build_overrides(values) for values in space.draw_values(beforehand, sweeper.seed)]
    return first, [space.build_overrides(values) for values in space.iterate_extremes()] if target == OPTUNA else [], []
