"""A study of Optuna's beside the records of a sweep: a journal file that the command and each of its runs write to.

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
from attnbench.training.optuna_trial import Pruner, import_optuna, open_journal_storage

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

_SMALLER_IS_BETTER = ("loss", "perplexity")


class Sampler(Enum):
    """How further trials are chosen."""

    tpe = "tpe"  # tree-structured Parzen estimator (Bergstra et al., 2011)
    random = "random"


class Direction(Enum):
    """Which values are better."""

    minimize = "minimize"
    maximize = "maximize"


@dataclass
class OptunaOptions:
    """`hydra.sweeper` of hydra/sweeper=optuna."""

    _target_: str = OPTUNA
    n_trials: int = 20  # of all commands on this study together
    seed: int = 1
    params: dict[str, str] | None = None  # as sweep=<name> gives them
    startup: int = 5  # trials that are drawn at random, and so are known and checked before any begins
    sampler: Sampler = Sampler.tpe
    pruner: Pruner = Pruner.median
    prune_after_trials: int = 3  # finished ones; before, nothing is known of what is good
    prune_after_epochs: int = 0
    metric: str | None = None  # of a validation, such as bleu; null: the one that decides which weights are best
    direction: Direction | None = None  # null: minimize loss and perplexity, maximize everything else
    batch: int | None = None  # trials that are chosen at once; null: sweep.workers

    @property
    def beforehand(self) -> int:
        """How many trials are drawn at random."""
        return self.n_trials if self.sampler is Sampler.random else min(self.startup, self.n_trials)


def open_study(folder: Path, name: str, options: OptunaOptions, monitor: str | None = None) -> Study:
    """The study `name` of the sweep in `folder`, begun if it is not there.

    `monitor` is the runs' task.monitor, whose better end counts where `options` name no metric and no direction.

    Raises:
        ConfigError: Optuna is not installed.
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
    told = {
        "metric": options.metric,
        "pruner": options.pruner.name,
        "prune_after_trials": options.prune_after_trials,
        "prune_after_epochs": options.prune_after_epochs,
    }
    for key, value in told.items():  # for the runs
        if study.user_attrs.get(key, study) != value:
            study.set_user_attr(key, value)
    return study


def distribution(one: Dimension) -> BaseDistribution:
    """What Optuna calls a dimension."""
    distributions = import_optuna().distributions
    found: BaseDistribution
    if one.listed:
        found = distributions.CategoricalDistribution(one.listed)
    elif one.whole:
        low, high, step = int(one.low), int(one.high), 1 if one.log else one.step
        found = distributions.IntDistribution(low, high, log=one.log, step=step)
    else:
        found = distributions.FloatDistribution(one.low, one.high, log=one.log)
    return found


def parameters(dimensions: Mapping[str, Dimension], values: Mapping[str, str]) -> dict[str, Any]:
    """Values as Optuna has them."""
    found: dict[str, Any] = {}
    for key, one in dimensions.items():
        found[key] = values[key] if one.listed else int(values[key]) if one.whole else float(values[key])
    return found


def values(dimensions: Mapping[str, Dimension], parameters: Mapping[str, Any]) -> dict[str, str]:
    """Optuna's parameters as overrides have them."""
    return {key: parameters[key] if one.listed else one.text(parameters[key]) for key, one in dimensions.items()}


def value_of(study: Study, number: int, record: Record) -> float:
    """What a finished trial is worth: its best validation or, if the study saw none, the one that chose its weights."""
    seen = study.trials[number].intermediate_values.values()
    if seen:
        return max(seen) if study.direction.name == "MAXIMIZE" else min(seen)
    metric = study.user_attrs["metric"]
    found = record.metrics["best"]
    if metric is None:
        default = next((key for key in ("bleu", "accuracy") if key in found), "loss")
        metric = str(record.config.get("task", {}).get("monitor", default))
    return float(found[metric.rpartition("/")[2]])


def end(study: Study, number: int, state: str) -> None:
    """Tell of a trial that has no value: it is PRUNED, or FAIL."""
    study.tell(number, state=import_optuna().trial.TrialState[state])
