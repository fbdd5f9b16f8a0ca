"""Connection of a run to its Optuna study: the journal file in the sweep's folder. No torch.

Akiba et al., "Optuna: a next-generation hyperparameter optimization framework", KDD 2019. The journal is locked by a
symbolic link, which is safe on NFS.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.config import ConfigError, Fault

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_JOURNAL_FILE = "optuna.journal"  # in the sweep's folder


class Pruner(Enum):
    """Algorithm that ends trials early."""

    median = "median"  # prunes trials whose best validation is worse than the median of the others at this epoch
    none = "none"


def build_reporter(folder: Path, name: str, number: int) -> tuple[str | None, Callable[[int, float], bool]]:
    """Build the function that reports validations of a run to its study.

    Args:
        folder: folder of the sweep.
        name: name of the study.
        number: number of the trial.

    Returns:
        The metric that the study uses (None: the task's), and a function that takes epoch and value and returns True
        if the run is to end.
    """
    optuna = import_optuna()
    study = optuna.load_study(study_name=name, storage=open_journal_storage(folder))
    attributes = study.user_attrs
    pruner: Any = optuna.pruners.NopPruner()
    if attributes["pruner"] == Pruner.median.name:
        pruner = optuna.pruners.MedianPruner(attributes["prune_after_trials"], attributes["prune_after_epochs"])
    storage = study._storage
    trial = storage.get_trial_id_from_study_id_trial_number(study._study_id, number)

    def report(epoch: int, value: float) -> bool:
        found = storage.get_trial(trial)
        if found.state.is_finished():  # the run is repeated, because its record was deleted
            return False
        if epoch not in found.intermediate_values:
            storage.set_trial_intermediate_value(trial, epoch, value)
        return bool(pruner.prune(study, storage.get_trial(trial)))

    return attributes["metric"], report


def open_journal_storage(folder: Path) -> BaseStorage:
    """Open the journal of the studies in a sweep's folder; create it where there is none."""
    storages = import_optuna().storages
    folder.mkdir(parents=True, exist_ok=True)
    found: BaseStorage = storages.JournalStorage(storages.journal.JournalFileBackend(str(folder / _JOURNAL_FILE)))
    return found


def import_optuna() -> Any:
    """Import Optuna, which reports warnings only.

    Raises:
        ConfigError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        expected = "Optuna is not installed: pip install attnbench[optuna]"
        raise ConfigError([Fault("hydra/sweeper", "optuna", expected)]) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
