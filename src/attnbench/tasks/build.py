"""Build task and data from a config, and load a task from a checkpoint."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from attnbench.config import Config, ConfigError
from attnbench.config.root import config_from_dict
from attnbench.config.task import ClassificationConfig, TaskConfig, TranslationConfig
from attnbench.tasks.base import CHECKPOINT_KEY, Task
from attnbench.tasks.classification import Classification
from attnbench.tasks.classification_data import ClassificationData
from attnbench.tasks.data import TaskData
from attnbench.tasks.translation import Translation
from attnbench.tasks.translation_data import TranslationData

# A new task adds its config, its module and its data here.
TASKS: dict[type[TaskConfig], tuple[type[Task], type[TaskData]]] = {
    TranslationConfig: (Translation, TranslationData),
    ClassificationConfig: (Classification, ClassificationData),
}


# Errors of reading an arbitrary file, and of building a task from its content.
_UNREADABLE = (
    RuntimeError,
    pickle.UnpicklingError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    OSError,
)


class CheckpointError(Exception):
    """Raised for a file that is not a checkpoint of this project, or of another version."""


def build_task(config: Config) -> tuple[Task, TaskData]:
    """Build the task of a config with random weights, and load its data.

    Args:
        config: config of the run.

    Raises:
        DataError: the data is missing or damaged.
    """
    task_type, data_type = TASKS[type(config.task)]
    data = data_type(config)
    return task_type(config, data.build_assets()), data


def load_task(path: Path) -> Task:
    """Load the trained task from a checkpoint; only the file is needed.

    Args:
        path: the checkpoint.

    Raises:
        CheckpointError: the file is missing, damaged, or not written by attnbench.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(CHECKPOINT_KEY), dict):
            raise CheckpointError(f"{path}: not a checkpoint of attnbench, but of another program")
        stored = checkpoint[CHECKPOINT_KEY]
        config = config_from_dict(stored["config"])
        task = TASKS[type(config.task)][0](config, stored["assets"])
        task.load_state_dict(checkpoint["state_dict"])
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}; written by another version?") from error
    except _UNREADABLE as error:
        first = next(iter(str(error).splitlines()), "")
        raise CheckpointError(f"{path}: not a whole attnbench checkpoint ({type(error).__name__}: {first})") from error
    return task.eval()
