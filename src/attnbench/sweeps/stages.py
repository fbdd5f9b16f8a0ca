"""Sweeps in stages: candidates before seeds (`sweep.tune`), and seeds until comparisons are decided (`sweep.seeds`).

All decisions follow from the records, so the same command resumes a sweep after any interruption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from attnbench.config import Config, ConfigError, Fault
from attnbench.config.tracking import SweepConfig
from attnbench.metrics.sequential import compute_sequential_p
from attnbench.metrics.statistics import ALPHA, correct_with_holm
from attnbench.records.identity import compute_run_id, config_to_dict
from attnbench.records.lifecycle import load_previous_record
from attnbench.records.record import (
    PLAN_FILE,
    Candidate,
    PlannedRun,
    SequentialComparison,
    SequentialTest,
    Status,
    TunedSetting,
    Tuning,
    read_plan,
    write_record,
)
from attnbench.sweeps.tuning import (
    SEED,
    CandidateValues,
    Setting,
    build_final_overrides,
    build_tuning_overrides,
    extend_grid,
    find_tuning_faults,
    format_overrides,
    get_best_validation,
    get_ends,
    list_candidates,
    list_numbers,
)

Compose = Callable[[list[str]], Config]


def is_staged(options: SweepConfig) -> bool:
    """Return True if later runs of the sweep depend on earlier ones."""
    return options.tune.params is not None or bool(options.looks)


def list_first_stage(
    settings: Sequence[Setting], options: SweepConfig
) -> tuple[list[list[str]], list[list[str]], list[Fault]]:
    """List the runs of the first stage, other runs that are to be checked, and faults.

    All values that later runs use are checked with these runs.

    Args:
        settings: settings of the sweep.
        options: options of the sweep.
    """
    wrong = list(_find_faults(settings, options))
    for setting in settings if options.looks else ():
        setting.seeds = [f"{SEED}={seed}" for seed in range(1, options.looks[0] + 1)]
    candidates = list_candidates(options.tune)
    final = [line for setting in settings for line in build_final_overrides(setting, candidates[0])]
    if options.tune.params is None:
        return final, [], wrong
    tuning = [
        overrides
        for setting in settings
        for candidate in candidates
        for overrides in build_tuning_overrides(setting, candidate, options.tune)
    ]
    return tuning, final, wrong


def _find_faults(settings: Sequence[Setting], options: SweepConfig) -> Iterator[Fault]:
    if options.tune.params is not None:
        yield from find_tuning_faults(settings, options.tune)
    if options.looks and any(setting.seeds for setting in settings):
        yield Fault("sweep.seeds", str(options.seeds), "chooses the seeds: leave seed out of the command")
    if options.looks and len(settings) < 2:
        yield Fault("sweep.seeds", str(options.seeds), "expected at least two settings to compare")


def count_later_runs(settings: Sequence[Setting], options: SweepConfig) -> int:
    """Return the number of runs that later stages add at most.

    Args:
        settings: settings of the sweep, with their swept seeds.
        options: options of the sweep.
    """
    if not is_staged(options):
        return 0
    tune, looks = options.tune, options.looks
    if tune.params is None:
        return len(settings) * (looks[-1] - looks[0])
    later = len(settings) * tune.extend * len(tune.seeds)
    for setting in settings:
        seeds = {f"{SEED}={seed}" for seed in range(1, looks[-1] + 1)} if looks else set(setting.seeds)
        reused = set() if tune.overrides else {f"{SEED}={seed}" for seed in tune.seeds}
        later += len(seeds - reused)
    return later


def find_baseline(settings: Sequence[Setting], options: SweepConfig, compose: Compose) -> int:
    """Return the index of the setting that has the values of `sweep.baseline`.

    Args:
        settings: settings of the sweep.
        options: options of the sweep.
        compose: returns the config of a run's overrides.

    Raises:
        ConfigError: no setting has these values, or several have.
    """
    found = [
        index
        for index, setting in enumerate(settings)
        if _has_values(config_to_dict(compose(setting.overrides)), options.baseline)
    ]
    if len(found) != 1:
        expected = f"expected the values of one setting, and {len(found)} of {len(settings)} have them"
        raise ConfigError([Fault("sweep.baseline", str(options.baseline), expected)])
    return found[0]


def _has_values(config: dict[str, Any], values: dict[str, Any]) -> bool:
    for key, expected in values.items():
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if node != expected:
            return False
    return True


class StagedSweep:
    """Runs of a sweep whose later runs depend on earlier ones.

    With `sweep.tune`, all candidates of all settings come first, then the seeds of the chosen candidates. With
    `sweep.seeds`, seeds are added until each comparison with the baseline is decided.
    """

    def __init__(
        self,
        folder: Path,
        settings: list[Setting],
        options: SweepConfig,
        *,
        compose: Compose,
        launch: Callable[[list[list[str]], int], object],
    ) -> None:
        """Prepare the sweep.

        Args:
            folder: folder of the sweep.
            settings: settings of the sweep.
            options: options of the sweep.
            compose: returns the config of a run's overrides, or raises ConfigError.
            launch: runs jobs given by their overrides and the index of the first.
        """
        self._folder, self._settings, self._tune, self._options = folder, settings, options.tune, options
        self._compose, self._launch = compose, launch
        self._plan = read_plan(folder / PLAN_FILE)
        self._runs: dict[str, PlannedRun] = {}  # by run_id
        self._is_tuning: dict[str, bool] = {}  # by run_id: whether a run serves only to choose
        self._composed: dict[tuple[str, ...], PlannedRun] = {}  # by overrides
        self._num_launched = 0
        self._metric = "loss"
        self._comparisons: list[SequentialComparison] = []
        for setting in settings:
            setting.candidates = list_candidates(options.tune)

    def run(self) -> None:
        """Run all stages; finished runs are skipped."""
        if self._tune.params is not None:
            self._tune_settings()
        if self._options.looks:
            self._run_looks()
        else:
            self._run_stage(self._list_final_runs(self._settings), is_tuning=False)

    def _tune_settings(self) -> None:
        """Run all candidates of all settings, and those of extended grids."""
        self._run_tuning_stage()
        for _ in range(self._tune.extend):
            extended = [self._extend_setting(setting) for setting in self._settings]
            if not any(extended):
                break
            self._run_tuning_stage()
        for setting in self._settings:
            print(self._format_choice(setting), flush=True)

    def _run_looks(self) -> None:
        """Add seeds, look by look, to the settings whose comparison is not decided, and to the baseline."""
        baseline = self._settings[find_baseline(self._settings, self._options, self._compose)]
        others = [setting for setting in self._settings if setting is not baseline]
        undecided = others
        for look in self._options.looks:
            for setting in (baseline, *undecided):
                setting.seeds = [f"{SEED}={seed}" for seed in range(1, look + 1)]
            self._run_stage(self._list_final_runs([baseline, *undecided]), is_tuning=False)
            self._comparisons = self._compare(others, baseline)
            self._write_plan()
            undecided = [setting for setting, one in zip(others, self._comparisons, strict=True) if not one.is_decided]
            names = ", ".join(self._format_name(setting) for setting in undecided)
            state = f"not decided yet: {names}" if undecided else "all comparisons are decided"
            print(f"after {look} seeds: {state}", flush=True)
            if not undecided:
                break

    def _compare(self, others: Sequence[Setting], baseline: Setting) -> list[SequentialComparison]:
        """Compare settings with the baseline; p is corrected for the looks, then for the comparisons (Holm 1979)."""
        theirs = self._read_test_values(baseline)
        numbers, ps = [], []
        for setting in others:
            ours = self._read_test_values(setting)
            seeds = sorted(ours.keys() & theirs.keys())
            numbers.append(len(seeds))
            ps.append(compute_sequential_p([ours[seed] - theirs[seed] for seed in seeds], self._options.looks))
        corrected = correct_with_holm([1.0 if p is None else p for p in ps])
        return [
            SequentialComparison(setting.overrides, number, None if p is None else fixed, fixed < ALPHA)
            for setting, number, p, fixed in zip(others, numbers, ps, corrected, strict=True)
        ]

    def _read_test_values(self, setting: Setting) -> dict[int, float]:
        """Read the test metric of a setting's finished runs, by seed."""
        values = {}
        for overrides in self._list_final_runs([setting]):
            run = self._plan_run(overrides)
            record = load_previous_record(self._folder / run.run_id)
            value = None if record is None else record.metrics.get("test", {}).get(self._get_monitor(run))
            if record is not None and record.status is Status.finished and isinstance(value, int | float):
                values[record.seed] = float(value)
        return values

    def _get_monitor(self, run: PlannedRun) -> str:
        return str(run.config["task"]["monitor"])

    def _list_final_runs(self, settings: Sequence[Setting]) -> list[list[str]]:
        """List the runs of settings with their chosen candidates; a setting without one has none."""
        chosen = [(setting, self._choose(setting) if self._tune.params is not None else {}) for setting in settings]
        return [
            overrides
            for setting, candidate in chosen
            if candidate is not None
            for overrides in build_final_overrides(setting, candidate)
        ]

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
        tune, tuning, sequential = self._tune, None, None
        if tune.params is not None:
            settings = [self._describe(setting) for setting in self._settings]
            tuning = Tuning(self._metric, dict(tune.params), list(tune.seeds), list(tune.overrides), settings)
        runs = [replace(run, is_tuning=self._is_tuning[run.run_id]) for run in self._runs.values()]
        if self._options.looks:
            metric = f"metrics.test.{self._get_monitor(runs[0])}"
            sequential = SequentialTest(metric, list(self._options.looks), self._comparisons)
        write_record(replace(self._plan, runs=runs, tuning=tuning, sequential=sequential), self._folder)

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

    def _list_tuning_ids(self, setting: Setting, candidate: CandidateValues) -> list[str]:
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

    def _choose(self, setting: Setting) -> CandidateValues | None:
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
        name = f"tuned: {self._format_name(setting)}: "
        if chosen is None:
            return f"{name}no candidate finished"
        value = self._read_mean_value(self._list_tuning_ids(setting, chosen))
        edge = ", at the end of the candidates" if self._list_edge_keys(setting, chosen) else ""
        return f"{name}{' '.join(format_overrides(chosen))} (validation {self._metric} {value:.4g}{edge})"

    def _format_name(self, setting: Setting) -> str:
        """Return the overrides of a setting that other settings do not share."""
        own = [line for line in setting.overrides if any(line not in other.overrides for other in self._settings)]
        return " ".join(own) or "the setting"

    def _list_edge_keys(self, setting: Setting, chosen: CandidateValues | None) -> list[str]:
        """List the keys whose chosen value is the smallest or largest candidate."""
        if chosen is None:
            return []
        return [key for key in chosen if chosen[key] in get_ends(list_numbers(setting.candidates, key))]

    def _extend_setting(self, setting: Setting) -> bool:
        """Add the next candidate behind each edge that the best candidate lies on; return True if there is one."""
        chosen = self._choose(setting)
        added = []
        for key in self._list_edge_keys(setting, chosen):
            assert chosen is not None
            candidate = chosen | {key: extend_grid(list_numbers(setting.candidates, key), chosen[key])}
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
