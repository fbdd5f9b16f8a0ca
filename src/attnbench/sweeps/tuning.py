"""Tuned sweeps: each setting is trained with every candidate, and only its best candidate gets all seeds.

A setting is a combination of all swept keys except the seed. All choices follow from the records, so the same command
resumes a tuned sweep after any interruption, and runs that served for tuning are used again.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from attnbench.config import Config, ConfigError, Fault
from attnbench.config.tracking import TuneConfig
from attnbench.records.identity import compute_run_id, config_to_dict
from attnbench.records.lifecycle import load_previous_record
from attnbench.records.record import (
    PLAN_FILE,
    SCHEMA_VERSION,
    Candidate,
    Plan,
    PlannedRun,
    Record,
    Status,
    TunedSetting,
    Tuning,
    read_plan,
    write_record,
)

_SEED = "seed"
Candidates = dict[str, Any]  # value by config key
Compose = Callable[[list[str]], Config]


@dataclass
class Setting:
    """Combination of the swept keys except the seed, its seeds, and the candidates that it is trained with."""

    overrides: list[str]
    seeds: list[str]  # overrides of the seed; empty: the seed is not swept
    candidates: list[Candidates] = field(default_factory=list)


def split_settings(combinations: Sequence[Sequence[str]]) -> list[Setting]:
    """Group the combinations of a sweep into settings.

    Args:
        combinations: overrides of each run.
    """
    settings: dict[tuple[str, ...], Setting] = {}
    for overrides in combinations:
        own = [line for line in overrides if line.partition("=")[0] != _SEED]
        setting = settings.setdefault(tuple(own), Setting(own, []))
        setting.seeds += [line for line in overrides if line.partition("=")[0] == _SEED]
    return list(settings.values())


def list_candidates(tune: TuneConfig) -> list[Candidates]:
    """List all combinations of the candidate values."""
    return [dict(zip(tune.params, values, strict=True)) for values in itertools.product(*tune.params.values())]


def build_tuning_overrides(setting: Setting, candidate: Candidates, tune: TuneConfig) -> list[list[str]]:
    """Build the overrides of the tuning runs of one candidate, one for each tuning seed."""
    own = [*setting.overrides, *format_overrides(candidate), *tune.overrides]
    return [[*own, f"{_SEED}={seed}"] for seed in tune.seeds]


def build_final_overrides(setting: Setting, candidate: Candidates) -> list[list[str]]:
    """Build the overrides of a setting's runs with the chosen candidate, one for each seed."""
    own = [*setting.overrides, *format_overrides(candidate)]
    return [[*own, seed] for seed in setting.seeds] or [own]


def format_overrides(candidate: Candidates) -> list[str]:
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
        if key == _SEED:
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


class TunedSweep:
    """Runs of a tuned sweep, in two stages: all candidates of all settings, then all seeds of the chosen candidates."""

    def __init__(
        self,
        folder: Path,
        settings: list[Setting],
        tune: TuneConfig,
        *,
        compose: Compose,
        launch: Callable[[list[list[str]], int], object],
    ) -> None:
        """Prepare the sweep.

        Args:
            folder: folder of the sweep.
            settings: settings of the sweep.
            tune: options of tuning.
            compose: returns the config of a run's overrides, or raises ConfigError.
            launch: runs jobs given by their overrides and the index of the first.
        """
        self._folder, self._settings, self._tune = folder, settings, tune
        self._compose, self._launch = compose, launch
        self._plan = read_plan(folder / PLAN_FILE)
        self._runs: dict[str, PlannedRun] = {}  # by run_id
        self._is_tuning: dict[str, bool] = {}  # by run_id: whether a run serves only to choose
        self._composed: dict[tuple[str, ...], PlannedRun] = {}  # by overrides
        self._num_launched = 0
        self._metric = "loss"
        for setting in settings:
            setting.candidates = list_candidates(tune)

    def run(self) -> None:
        """Run all stages; finished runs are skipped."""
        self._run_tuning_stage()
        for _ in range(self._tune.extend):
            extended = [self._extend_setting(setting) for setting in self._settings]
            if not any(extended):
                break
            self._run_tuning_stage()
        for setting in self._settings:
            print(self._format_choice(setting), flush=True)
        chosen = [(setting, best) for setting in self._settings if (best := self._choose(setting)) is not None]
        self._run_stage(
            [line for setting, candidate in chosen for line in build_final_overrides(setting, candidate)],
            is_tuning=False,
        )

    def _run_tuning_stage(self) -> None:
        runs = [
            overrides
            for setting in self._settings
            for candidate in setting.candidates
            for overrides in build_tuning_overrides(setting, candidate, self._tune)
        ]
        self._run_stage(runs, is_tuning=True)

    def _run_stage(self, runs: list[list[str]], *, is_tuning: bool) -> None:
        """Write the plan with these runs, and run them."""
        planned = [self._plan_run(overrides) for overrides in runs]
        for run in planned:
            # A run of the first stage may also be one of the last stage.
            self._is_tuning[run.run_id] = is_tuning and self._is_tuning.get(run.run_id, True)
            self._runs.setdefault(run.run_id, run)
        self._write_plan()
        missing = [run.overrides for run in planned if not self._is_finished(run)]
        if missing:
            self._launch(missing, self._num_launched)
            self._num_launched += len(missing)
        self._write_plan()

    def _plan_run(self, overrides: list[str]) -> PlannedRun:
        key = tuple(overrides)
        if key not in self._composed:
            config = self._compose(overrides)
            self._composed[key] = PlannedRun(compute_run_id(config), overrides, config_to_dict(config))
        return self._composed[key]

    def _is_finished(self, run: PlannedRun) -> bool:
        record = load_previous_record(self._folder / run.run_id)
        return record is not None and record.status is Status.finished

    def _write_plan(self) -> None:
        tune, settings = self._tune, [self._describe(setting) for setting in self._settings]
        tuning = Tuning(self._metric, dict(tune.params), list(tune.seeds), list(tune.overrides), settings)
        runs = [replace(run, is_tuning=self._is_tuning[run.run_id]) for run in self._runs.values()]
        write_record(Plan(SCHEMA_VERSION, self._plan.sweep, self._plan.command, runs, tuning), self._folder)

    def _describe(self, setting: Setting) -> TunedSetting:
        """Describe the candidates of a setting and the choice among them."""
        tried = []
        for candidate in setting.candidates:
            run_ids = self._list_tuning_ids(setting, candidate)
            tried.append(Candidate(candidate, run_ids, self._read_mean_value(run_ids)))
        chosen = self._choose(setting)
        final = [] if chosen is None else build_final_overrides(setting, chosen)
        run_ids = [self._plan_run(overrides).run_id for overrides in final]
        return TunedSetting(setting.overrides, tried, chosen, self._list_edge_keys(setting, chosen), run_ids)

    def _list_tuning_ids(self, setting: Setting, candidate: Candidates) -> list[str]:
        return [self._plan_run(line).run_id for line in build_tuning_overrides(setting, candidate, self._tune)]

    def _read_mean_value(self, run_ids: Sequence[str]) -> float | None:
        """Return the mean of the best validation of tuning runs; None unless all of them finished."""
        values = []
        for run_id in run_ids:
            record = load_previous_record(self._folder / run_id)
            if record is None:
                return None
            self._metric, value = get_best_validation(record)
            values.append(value)
        known = [value for value in values if value is not None]
        return fmean(known) if len(known) == len(values) else None

    def _choose(self, setting: Setting) -> Candidates | None:
        """Return the candidate with the best validation; None if no candidate finished.

        Of equal candidates, the first one is chosen.
        """
        found = [
            (value, candidate)
            for candidate in setting.candidates
            if (value := self._read_mean_value(self._list_tuning_ids(setting, candidate))) is not None
        ]
        if not found:
            return None
        sign = -1 if self._metric == "loss" else 1
        return max(found, key=lambda one: sign * one[0])[1]

    def _format_choice(self, setting: Setting) -> str:
        chosen = self._choose(setting)
        own = " ".join(
            line for line in setting.overrides if any(line not in other.overrides for other in self._settings)
        )
        name = f"tuned: {own}: " if own else "tuned: "
        if chosen is None:
            return f"{name}no candidate finished"
        value = self._read_mean_value(self._list_tuning_ids(setting, chosen))
        edge = ", the edge of the candidates" if self._list_edge_keys(setting, chosen) else ""
        return f"{name}{' '.join(format_overrides(chosen))} (validation {self._metric} {value:.4g}{edge})"

    def _list_edge_keys(self, setting: Setting, chosen: Candidates | None) -> list[str]:
        """List the keys whose chosen value is the smallest or largest candidate."""
        if chosen is None:
            return []
        return [key for key in chosen if chosen[key] in _get_ends(_list_numbers(setting.candidates, key))]

    def _extend_setting(self, setting: Setting) -> bool:
        """Add the next candidate behind each edge that the best candidate lies on; return True if there is one."""
        chosen = self._choose(setting)
        added = []
        for key in self._list_edge_keys(setting, chosen):
            assert chosen is not None
            candidate = chosen | {key: extend_grid(_list_numbers(setting.candidates, key), chosen[key])}
            try:
                for overrides in build_tuning_overrides(setting, candidate, self._tune):
                    self._compose(overrides)
            except ConfigError as error:
                print(f"attnbench: sweep.tune.extend: {'; '.join(str(error).splitlines())}", flush=True)
                continue
            if candidate not in setting.candidates:
                added.append(candidate)
        setting.candidates += added
        return bool(added)


def _list_numbers(candidates: Sequence[Candidates], key: str) -> list[float]:
    """List the different numbers of a key in order; empty if a value is not a number."""
    values = [candidate[key] for candidate in candidates]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return []
    return sorted(set(values))


def _get_ends(numbers: Sequence[float]) -> tuple[float, ...]:
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
