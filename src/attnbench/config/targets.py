"""Dotted paths of the user's own objects in a config, such as `attention.target=mypackage.scores.Manhattan`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import Any

from attnbench.config.fields import ConfigError, Fault

_EXPECTED = "expected the dotted path of an object that Python can import from here, as in package.module.Name"


def find_target_fault(path: str) -> str | None:
    """Find what is wrong with a dotted path, without importing its module.

    Returns:
        A sentence about the fault; None if the module exists.
    """
    module = path.rpartition(".")[0]
    if not module or not all(part.isidentifier() for part in path.split(".")):
        return _EXPECTED
    _add_current_folder()
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a parent package does not exist, or cannot be imported
        found = None
    return None if found is not None else f"{_EXPECTED}; there is no module {module}"


def import_target(path: str, key: str) -> Any:
    """Import the object at a dotted path.

    Args:
        path: package.module.Name.
        key: config key that has the path, for the error message.

    Raises:
        ConfigError: the module cannot be imported, or has no such name.
    """
    module, _, name = path.rpartition(".")
    _add_current_folder()
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError([Fault(key, path, f"{_EXPECTED}; {error}")]) from error


def _add_current_folder() -> None:
    """Make modules in the current folder importable, as `python -m` does; they come after installed ones."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
