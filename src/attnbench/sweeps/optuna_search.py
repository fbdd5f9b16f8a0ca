"""A search by Optuna: asks for trials, has them run, and tells what became of them; the plan grows as they come."""

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
from attnbench.sweeps.optuna_study import OptunaOptions, distribution, end, open_study, parameters, value_of, values
from attnbench.sweeps.search_space import Space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_NO_SEARCH = ("name", "paths", "logger", "callbacks", "sweep")  # groups that do not make it another one


class Search:
    """The trials of one study, of this command and of earlier ones."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        options: OptunaOptions,
        *,
        at_once: int,
        compose: Callable[[list[str]], Config],
        launch: Callable[[list[list[str]], int], object],
    ) -> None:
        """Open the study; where it is new, it begins with the same random draws as the plan.

        Args:
            folder: of the sweep.
            space: what is searched, and the overrides that all trials share.
            options: `hydra.sweeper`.
            at_once: how many trials are asked for at once.
            compose: gives the config of a run's overrides, or raises ConfigError.
            launch: runs jobs by their overrides, the first of which has this index.
        """
        self._folder, self._space, self._options = folder, space, options
        self._at_once, self._compose, self._launch = at_once, compose, launch
        self._name = name_of(space, options)
        drawn = space.draws(options.beforehand, options.seed)
        self._study = open_study(folder, self._name, options, self._monitor(drawn))
        self._distributions = {key: distribution(one) for key, one in space.dimensions.items()}
        for one in drawn[len(self._study.trials) :]:
            self._study.enqueue_trial(parameters(space.dimensions, one))
        self._runs: dict[int, PlannedRun] = {}  # by number of trial

    def _monitor(self, drawn: Sequence[Mapping[str, str]]) -> str | None:
        """Return the task.monitor of the first trial that can be composed."""
        for one in drawn:
            with suppress(ConfigError):
                monitor = getattr(self._compose(self._space.lines(one)).task, "monitor", None)
                return None if monitor is None else str(monitor.name)
        return None

    def run(self) -> None:
        """Take up the trials of earlier commands, and ask for further ones until there are enough."""
        begun = [trial for trial in self._study.trials if trial.state.name not in ("WAITING", "FAIL")]
        self._do([trial for trial in begun if self._plan(trial.number)])
        while (count := self._asked()) < self._options.n_trials:
            batch = min(self._at_once, self._options.n_trials - count)
            asked = [self._study.ask(self._distributions).number for _ in range(batch)]
            self._do([self._study.trials[number] for number in asked if self._plan(number)])

    def _asked(self) -> int:
        return sum(trial.state.name != "WAITING" for trial in self._study.trials)

    def _plan(self, number: int) -> bool:
        """Make a trial part of the plan; one that cannot be composed is told so, and is none."""
        trial = self._study.trials[number]
        own = self._space.lines(values(self._space.dimensions, trial.params))
        lines = [*own, f"sweep.study={self._name}", f"sweep.trial={number}"]
        try:
            config = self._compose(lines)
        except ConfigError as error:
            said = "; ".join(str(error).splitlines())
            print(f"attnbench: trial {number} is refused: {said}", flush=True)
            if not trial.state.is_finished():
                end(self._study, number, "FAIL")
            return False
        self._runs[number] = PlannedRun(compute_run_id(config), lines, config_to_dict(config))
        return True

    def _do(self, trials: Sequence[FrozenTrial]) -> None:
        """Run trials, and tell the study what their records say."""
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
                self._study.tell(trial.number, value_of(self._study, trial.number, record))
            elif record.status_label == FailureReason.pruned:
                end(self._study, trial.number, "PRUNED")
            # What failed stays open: the same command tries it again.


def name_of(space: Space, options: OptunaOptions) -> str:
    """Which study this is: the same for the same search, whoever watches it and where."""
    fixed = [line for line in space.fixed if line.partition("=")[0].partition(".")[0] not in _NO_SEARCH]
    searched = {key: repr(one) for key, one in space.dimensions.items()}
    direction = options.direction.name if options.direction is not None else None
    text = json.dumps([sorted(fixed), searched, options.metric, direction], sort_keys=True)
    return f"study-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
