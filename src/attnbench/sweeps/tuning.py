"""Candidates of a tuned sweep: each setting is trained with every candidate, and only its best gets all seeds.

A setting is a combination of all swept keys except the seed. `sweeps/stages.py` runs the stages.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnbench.config import Config, Fault
from attnbench.config.tracking import TuneConfig
from attnbench.records.record import (
    Record,
    Status,
)

SEED = "seed"
CandidateValues = dict[str, Any]  # value by config key
Compose = Callable[[list[str]], Config]


@dataclass
class Setting:
    """Combination of the swept keys except the seed, its seeds, and the candidates that it is trained with."""

    overrides: list[str]
    seeds: list[str]  # overrides of the seed; empty: the seed is not swept
    candidates: list[CandidateValues] = field(default_factory=list)


def remove_seed(overrides: Sequence[str]) -> list[str]:
    """Return the overrides without that of the seed."""
    return [line for line in overrides if line.partition("=")[0] != SEED]


def split_settings(combinations: Sequence[Sequence[str]]) -> list[Setting]:
    """Group the combinations of a sweep into settings.

    Args:
        combinations: overrides of each run.
    """
    settings: dict[tuple[str, ...], Setting] = {}
    for overrides in combinations:
        own = remove_seed(overrides)
        setting = settings.setdefault(tuple(own), Setting(own, []))
        setting.seeds += [line for line in overrides if line.partition("=")[0] == SEED]
    return list(settings.values())


def list_candidates(tune: TuneConfig) -> list[CandidateValues]:
    """List all combinations of the candidate values; one without values if the sweep is not tuned."""
    params = tune.params or {}
    return [dict(zip(params, values, strict=True)) for values in itertools.product(*params.values())]


def build_tuning_overrides(setting: Setting, candidate: CandidateValues, tune: TuneConfig) -> list[list[str]]:
    """Build the overrides of the tuning runs of one candidate, one for each tuning seed."""
    own = [*setting.overrides, *format_overrides(candidate), *tune.overrides]
    return [[*own, f"{SEED}={seed}"] for seed in tune.seeds]


def build_final_overrides(setting: Setting, candidate: CandidateValues) -> list[list[str]]:
    """Build the overrides of a setting's runs with the chosen candidate, one for each seed."""
    own = [*setting.overrides, *format_overrides(candidate)]
    return [[*own, seed] for seed in setting.seeds] or [own]


def format_overrides(candidate: CandidateValues) -> list[str]:
    """Format a candidate as overrides."""
    return [f"{key}={_format_value(value)}" for key, value in candidate.items()]


def _format_value(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def find_tuning_faults(settings: Sequence[Setting], tune: TuneConfig) -> Iterator[Fault]:
    """Yield the faults of a tuned sweep that its runs do not show."""
    swept = {line.partition("=")[0] for setting in settings for line in setting.overrides}
    for key, values in tune.params.items():
        given = f"{{{key}: {values}}}"
        if key == SEED:
            yield Fault("sweep.tune.params", given, "expected keys other than the seed: sweep.tune.seeds has the seeds")
        elif key in swept:
            yield Fault("sweep.tune.params", given, f"{key} is set or swept in the same command: leave one of them out")


def get_best_validation(record: Record) -> tuple[str, float | None]:
    """Return the metric that chose a run's weights, and its best value; None if the run has no finite value."""
    best = record.metrics.get("best", {})
    default = next((key for key in ("bleu", "accuracy") if key in best), "loss")
    name = str(record.config.get("task", {}).get("monitor", default))
    value = best.get(name)
    if record.status is not Status.finished or not isinstance(value, int | float) or not math.isfinite(value):
        return name, None
    return name, float(value)


def list_numbers(candidates: Sequence[CandidateValues], key: str) -> list[float]:
    """List the different numbers of a key in order; empty if a value is not a number."""
    values = [candidate[key] for candidate in candidates]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return []
    return sorted(set(values))


def get_ends(numbers: Sequence[float]) -> tuple[float, ...]:
    """Return the smallest and the largest of sorted numbers; empty if there is one number only."""
    return (numbers[0], numbers[-1]) if len(numbers) > 1 else ()


def extend_grid(numbers: Sequence[float], end: float) -> float:
    """Return the number that continues a grid behind one of its ends.

    The ratio of the last two numbers is repeated, or their difference if one of them is not positive.

    Args:
        numbers: grid in order, with at least two numbers.
        end: first or last number of the grid.
    """
    neighbor = numbers[1] if end == numbers[0] else numbers[-2]
    found = end * end / neighbor if min(end, neighbor) > 0 else 2 * end - neighbor
    if isinstance(end, int) and isinstance(neighbor, int):
        return round(found)
    return float(f"{found:.6g}")
