"""Search with Optuna: asks the study for trials, runs them and reports their values. The plan grows with the trials."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attnbench.config import Config, ConfigError
from attnbench.records.identity import compute_run_id, config_to_dict
from attnbench.records.lifecycle import load_previous_record
from attnbench.records.record import (
    PLAN_FILE,
    SCHEMA_VERSION,
    FailureReason,
    Plan,
    PlannedRun,
    Status,
    read_plan,
    write_record,
)
from attnbench.sweeps.optuna_study import (
    OptunaOptions,
    build_distribution,
    end_trial,
    get_trial_value,
    open_study,
    to_optuna_parameters,
    to_override_values,
)
from attnbench.sweeps.search_space import SearchSpace

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_NOT_PART_OF_STUDY = ("name", "paths", "logger", "callbacks", "sweep")  # groups that are not part of a study's identity


class OptunaSearch:
    """Trials of one study, from this command and earlier ones."""

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        options: OptunaOptions,
        *,
        max_parallel: int,
        compose: Callable[[list[str]], Config],
        launch: Callable[[list[list[str]], int], object],
    ) -> None:
        """Open the study; a new study starts with the random draws that the plan has checked.

        Args:
            folder: folder of the sweep.
            space: search space, and the overrides that all trials share.
            options: `hydra.sweeper`.
            max_parallel: number of trials to request at once.
            compose: returns the config of a run's overrides, or raises ConfigError.
            launch: runs jobs given by their overrides and the index of the first.
        """
        self._folder, self._space, self._options = folder, space, options
        self._at_once, self._compose, self._launch = max_parallel, compose, launch
        self._name = build_study_name(space, options)
        drawn = space.draw_values(options.num_random_trials, options.seed)
        self._study = open_study(folder, self._name, options, self._find_monitor(drawn))
        self._distributions = {key: build_distribution(one) for key, one in space.dimensions.items()}
        for one in drawn[len(self._study.trials) :]:
            self._study.enqueue_trial(to_optuna_parameters(space.dimensions, one))
        self._runs: dict[int, PlannedRun] = {}  # by number of trial

    def _find_monitor(self, drawn: Sequence[Mapping[str, str]]) -> str | None:
        """Return the task.monitor of the first trial that can be composed."""
        for one in drawn:
            with suppress(ConfigError):
                monitor = getattr(self._compose(self._space.build_overrides(one)).task, "monitor", None)
                return None if monitor is None else str(monitor.name)
        return None

    def run(self) -> None:
        """Resume the trials of earlier commands, then request trials until there are enough."""
        begun = [trial for trial in self._study.trials if trial.state.name not in ("WAITING", "FAIL")]
        self._run_trials([trial for trial in begun if self._add_to_plan(trial.number)])
        while (count := self._count_trials()) < self._options.n_trials:
            batch = min(self._at_once, self._options.n_trials - count)
            numbers = [self._study.ask(self._distributions).number for _ in range(batch)]
            self._run_trials([self._study.trials[number] for number in numbers if self._add_to_plan(number)])

    def _count_trials(self) -> int:
        return sum(trial.state.name != "WAITING" for trial in self._study.trials)

    def _add_to_plan(self, number: int) -> bool:
        """Add a trial to the plan, and return True; a trial that cannot be composed is reported as failed."""
        trial = self._study.trials[number]
        own = self._space.build_overrides(to_override_values(self._space.dimensions, trial.params))
        lines = [*own, f"sweep.study={self._name}", f"sweep.trial={number}"]
        try:
            config = self._compose(lines)
        except ConfigError as error:
            message = "; ".join(str(error).splitlines())
            print(f"attnbench: trial {number} is refused: {message}", flush=True)
            if not trial.state.is_finished():
                end_trial(self._study, number, "FAIL")
            return False
        self._runs[number] = PlannedRun(compute_run_id(config), lines, config_to_dict(config))
        return True

    def _run_trials(self, trials: Sequence[FrozenTrial]) -> None:
        """Run trials, and report their values from the records to the study."""
        if not trials:
            return
        plan = read_plan(self._folder / PLAN_FILE)
        runs = {planned.run_id: planned for planned in [*plan.runs, *self._runs.values()]}
        write_record(Plan(SCHEMA_VERSION, plan.sweep, plan.command, list(runs.values())), self._folder)
        self._launch([self._runs[trial.number].overrides for trial in trials], trials[0].number)
        for trial in trials:
            record = load_previous_record(self._folder / self._runs[trial.number].run_id)
            if trial.state.is_finished() or record is None:
                continue
            if record.status is Status.finished:
                self._study.tell(trial.number, get_trial_value(self._study, trial.number, record))
            elif record.status_label == FailureReason.pruned:
                end_trial(self._study, trial.number, "PRUNED")
            # Failed trials stay open, and the same command tries them again.


def build_study_name(space: SearchSpace, options: OptunaOptions) -> str:
    """Return the name of the study: equal for equal searches."""
    fixed = [
        line for line in space.fixed_overrides if line.partition("=")[0].partition(".")[0] not in _NOT_PART_OF_STUDY
    ]
    searched = {key: repr(one) for key, one in space.dimensions.items()}
    direction = options.direction.name if options.direction is not None else None
    text = json.dumps([sorted(fixed), searched, options.metric, direction], sort_keys=True)
    return f"study-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
