"""Optuna study of a sweep, in a journal file that the command and its runs write to.

Akiba et al., "Optuna: a next-generation hyperparameter optimization framework", KDD 2019. The journal's lock is a
symbolic link, which is safe on NFS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.records.record import Record
from attnbench.sweeps.search_space import OPTUNA, Dimension
from attnbench.sweeps.tuning import get_best_validation
from attnbench.training.optuna_trial import Pruner, import_optuna, open_journal_storage

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

_SMALLER_IS_BETTER = ("loss", "perplexity")


class Sampler(Enum):
    """Algorithms that choose further trials."""

    tpe = "tpe"  # tree-structured Parzen estimator (Bergstra et al., 2011)
    random = "random"


class Direction(Enum):
    """Direction of optimization."""

    minimize = "minimize"
    maximize = "maximize"


@dataclass
class OptunaOptions:
    """`hydra.sweeper` of hydra/sweeper=optuna."""

    _target_: str = OPTUNA
    n_trials: int = 20  # number of trials, of all commands on this study
    seed: int = 1
    params: dict[str, str] | None = None  # as sweep=<name> gives them
    startup: int = 5  # random trials at the start, which are planned and checked before any run starts
    sampler: Sampler = Sampler.tpe
    pruner: Pruner = Pruner.median
    prune_after_trials: int = 3  # number of finished trials before pruning starts
    prune_after_epochs: int = 0
    metric: str | None = None  # validation metric, such as bleu; null: the monitored one
    direction: Direction | None = None  # null: minimize loss and perplexity, maximize everything else
    batch: int | None = None  # trials per batch; null: sweep.workers

    @property
    def num_random_trials(self) -> int:
        """Number of trials that are drawn at random."""
        return self.n_trials if self.sampler is Sampler.random else min(self.startup, self.n_trials)


def open_study(folder: Path, name: str, options: OptunaOptions, monitor: str | None = None) -> Study:
    """Open the study `name` of the sweep in `folder`, or create it.

    Args:
        folder: folder of the sweep.
        name: name of the study.
        options: `hydra.sweeper`.
        monitor: task.monitor of the runs, whose direction is used if `options` names no metric and no direction.

    Raises:
        ConfigError: if Optuna is not installed.
    """
    optuna = import_optuna()
    direction = options.direction
    if direction is None:
        metric = options.metric or monitor or ""
        smaller = metric.rpartition("/")[2] in _SMALLER_IS_BETTER
        direction = Direction.minimize if smaller else Direction.maximize
    known = sum(name == one for one in optuna.get_all_study_names(open_journal_storage(folder)))
    seed = options.seed + (
        len(optuna.load_study(study_name=name, storage=open_journal_storage(folder)).trials) if known else 0
    )
    random = options.sampler is Sampler.random
    sampler: Any = optuna.samplers.RandomSampler(seed=seed) if random else optuna.samplers.TPESampler(seed=seed)
    study: Study = optuna.create_study(
        storage=open_journal_storage(folder),
        study_name=name,
        direction=direction.name,
        sampler=sampler,
        load_if_exists=True,
    )
    attributes = {
        "metric": options.metric,
        "pruner": options.pruner.name,
        "prune_after_trials": options.prune_after_trials,
        "prune_after_epochs": options.prune_after_epochs,
    }
    for key, value in attributes.items():  # for the runs
        if study.user_attrs.get(key, study) != value:
            study.set_user_attr(key, value)
    return study


def build_distribution(dimension: Dimension) -> BaseDistribution:
    """Build the Optuna distribution of a dimension."""
    distributions = import_optuna().distributions
    found: BaseDistribution
    if dimension.choices:
        found = distributions.CategoricalDistribution(dimension.choices)
    elif dimension.is_integer:
        low, high, step = int(dimension.low), int(dimension.high), 1 if dimension.is_log else dimension.step
        found = distributions.IntDistribution(low, high, log=dimension.is_log, step=step)
    else:
        found = distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)
    return found


def to_optuna_parameters(dimensions: Mapping[str, Dimension], values: Mapping[str, str]) -> dict[str, Any]:
    """Convert override values to Optuna parameters.

    Args:
        dimensions: dimensions of the search.
        values: override values by key.
    """
    found: dict[str, Any] = {}
    for key, one in dimensions.items():
        found[key] = values[key] if one.choices else int(values[key]) if one.is_integer else float(values[key])
    return found


def to_override_values(dimensions: Mapping[str, Dimension], parameters: Mapping[str, Any]) -> dict[str, str]:
    """Convert Optuna parameters to override values.

    Args:
        dimensions: dimensions of the search.
        parameters: Optuna parameters by name.
    """
    return {
        key: parameters[key] if one.choices else one.format_value(parameters[key]) for key, one in dimensions.items()
    }


def get_trial_value(study: Study, number: int, record: Record) -> float:
    """Return the value of a finished trial.

    The best reported validation or, if none was reported, the validation that chose the weights.
    """
    seen = study.trials[number].intermediate_values.values()
    if seen:
        return max(seen) if study.direction.name == "MAXIMIZE" else min(seen)
    metric = study.user_attrs["metric"] or get_best_validation(record)[0]
    return float(record.metrics["best"][metric.rpartition("/")[2]])


def end_trial(study: Study, number: int, state: str) -> None:
    """End a trial without a value, as PRUNED or FAIL.

    Args:
        study: Optuna study.
        number: number of the trial.
        state: PRUNED or FAIL.
    """
    study.tell(number, state=import_optuna().trial.TrialState[state])
