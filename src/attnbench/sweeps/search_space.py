"""What a search may draw, read from swept overrides, and random draws from it: the same ones for the same seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from attnbench.config import Fault
from attnbench.sweeps.override_errors import typed

RANDOM = "hydra_plugins.attnbench_sweeper.RandomSweeper"
OPTUNA = "hydra_plugins.attnbench_sweeper.OptunaSweeper"
_DIGITS = 4  # that a number drawn from an interval has: what is run is what is shown


@dataclass
class GridOptions:
    """`hydra.sweeper` of hydra/sweeper=grid, which config.yaml chooses: the options of Hydra's own `basic`."""

    _target_: str = "hydra_plugins.attnbench_sweeper.GridSweeper"
    max_batch_size: int | None = None  # runs that the launcher gets at once; null: all
    params: dict[str, str] | None = None


@dataclass
class RandomOptions:
    """`hydra.sweeper` of hydra/sweeper=random."""

    _target_: str = RANDOM
    n_trials: int = 20  # draws; more of them begin with the same ones
    seed: int = 1
    params: dict[str, str] | None = None  # as sweep=<name> gives them


@dataclass(frozen=True)
class Dimension:
    """What one key may be: one of a list, or a number in an interval or range, both ends included."""

    listed: tuple[str, ...] = ()  # as overrides have them
    low: float = 1.0
    high: float = 0.0
    whole: bool = False
    step: int = 1  # between whole numbers
    log: bool = False

    @classmethod
    def of(cls, override: Override) -> Dimension:
        """`a,b`, `choice(a,b)`, `range(..)`, `interval(..)`, `int(interval(..))`, `tag(log, interval(..))`."""
        value = override.value()
        if isinstance(value, IntervalSweep):
            assert value.start is not None
            assert value.end is not None
            low, high = min(value.start, value.end), max(value.start, value.end)
            return cls(low=low, high=high, whole=isinstance(low, int), log="log" in value.tags)
        if isinstance(value, RangeSweep) and isinstance(value.range(), range):
            found = sorted(value.range())
            return cls(low=found[0], high=found[-1], whole=True, step=abs(int(value.step)), log="log" in value.tags)
        return cls(tuple(override.sweep_string_iterator()))

    def text(self, number: float) -> str:
        """A number of this dimension as an override has it."""
        if self.whole:
            return str(int(self.low) + self.step * round((number - self.low) / self.step))
        return str(min(max(float(f"{number:.{_DIGITS}g}"), self.low), self.high))

    def draw(self, generator: random.Random) -> str:
        """Each of a list, each whole number, and each part of an interval (of its logarithm) as likely as another."""
        part = generator.random()  # the one method that is the same in every version of Python
        if self.listed:
            return self.listed[int(part * len(self.listed))]
        if self.log:
            number = math.exp(math.log(self.low) + part * (math.log(self.high) - math.log(self.low)))
        else:
            margin = self.step / 2 if self.whole else 0.0  # a whole number stands for all that is rounded to it
            number = self.low - margin + part * (self.high - self.low + 2 * margin)
        return self.text(min(max(number, self.low), self.high))

    @property
    def ends(self) -> tuple[str, ...]:
        """The values by which to tell whether all may be used."""
        return self.listed or (self.text(self.low), self.text(self.high))


class Space:
    """The keys of a search, with the overrides that are the same for all of its runs."""

    def __init__(self, overrides: Iterable[Override]) -> None:
        """Of two overrides of a key, the later one counts."""
        self.dimensions: dict[str, Dimension] = {}
        self._entries: dict[str, str] = {}
        for override in overrides:
            key = override.get_key_element()
            self.dimensions.pop(key, None)
            if override.is_sweep_override():
                self.dimensions[key] = Dimension.of(override)
            self._entries[key] = "" if override.is_sweep_override() else override.get_value_element_as_str()

    @property
    def fixed(self) -> list[str]:
        """The overrides of what is not searched."""
        return [f"{key}={value}" for key, value in self._entries.items() if key not in self.dimensions]

    def lines(self, values: Mapping[str, str]) -> list[str]:
        """The overrides of one run."""
        return [f"{key}={values.get(key, value)}" for key, value in self._entries.items()]

    def draws(self, count: int, seed: int) -> list[dict[str, str]]:
        """Values for so many runs; fewer draws are the first of more."""
        generator = random.Random(seed)
        return [{key: one.draw(generator) for key, one in self.dimensions.items()} for _ in range(count)]

    def ends(self) -> Iterator[dict[str, str]]:
        """Each value that an end or a list has, the other keys at their first."""
        first = {key: one.ends[0] for key, one in self.dimensions.items()}
        yield first
        for key, one in self.dimensions.items():
            yield from (first | {key: value} for value in one.ends[1:])


def _faults_of(overrides: Iterable[Override]) -> list[Fault]:
    """What cannot be drawn from."""
    found = []
    for override in overrides:
        value = override.value()
        if isinstance(value, IntervalSweep | RangeSweep) and "log" in value.tags and Dimension.of(override).low <= 0:
            expected = "expected numbers above 0: it is drawn by its logarithm"
            found.append(Fault(override.key_or_group, typed(override), expected))
    return found


def of(sweeper: Any, overrides: Sequence[Override]) -> tuple[list[list[str]], list[list[str]], list[Fault]] | None:
    """The overrides of the runs that a search knows beforehand, of those to check beside them, and what is wrong.

    Args:
        sweeper: `hydra.sweeper`, composed; None is returned where it is no search of ours.
        overrides: what is swept, and what is the same for all.
    """
    target = sweeper.get("_target_")
    if target not in (RANDOM, OPTUNA):
        return None
    wrong = _faults_of(overrides)
    beforehand = sweeper.n_trials
    if target == OPTUNA and sweeper.sampler.name != "random":
        beforehand = min(sweeper.startup, sweeper.n_trials)
    if beforehand < 1:
        key = "n_trials" if sweeper.n_trials < 1 else "startup"
        wrong.append(Fault(f"hydra.sweeper.{key}", str(sweeper[key]), "expected at least 1"))
    space = Space(overrides)
    if wrong:
        return [], [], wrong
    first = [space.lines(values) for values in space.draws(beforehand, sweeper.seed)]
    return first, [space.lines(values) for values in space.ends()] if target == OPTUNA else [], []
