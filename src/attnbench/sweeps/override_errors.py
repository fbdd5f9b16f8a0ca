"""Turns errors of Hydra and OmegaConf about overrides into one sentence: key, given value, expected value."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import logging
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import ValidationError

from attnbench.config import Fault
from attnbench.config.fields import describe_type, get_type_hints
from attnbench.config.tracking import MAX_NAME_LENGTH


def format_typed_value(override: Override) -> str:
    """Return the value as it was typed."""
    return str(override.input_line).partition("=")[2]


def build_syntax_fault(token: str) -> Fault:
    """Build the fault of an override that Hydra's grammar cannot parse."""
    key, equals, given = token.partition("=")
    if not equals or not key:
        return Fault(token, "", "expected key=value")
    return Fault(key, given, "cannot be read: quote what holds spaces or brackets, as in 'key=\"a (b)\"'")


def find_choice_fault(override: Override, options: Sequence[str]) -> Fault | None:
    """Return the fault of a group choice that Hydra accepts but that is not one of the options."""
    key, value = override.key_or_group, override.value()
    if override.is_delete():
        return Fault(f"~{key}", "", f"cannot be removed: choose another one with {key}=<name>")
    if options and (value is None or isinstance(value, list)):
        return Fault(key, format_typed_value(override), f"expected one of {', '.join(options)}")
    return None


def check_settings(composed: DictConfig, settings: Sequence[Override]) -> None:
    """Check Hydra's own settings, with placeholders for values that are known only in a run.

    Raises:
        ValueError: for a setting of a wrong type or out of bounds.
        OmegaConfBaseException: for a setting without a value, or with an interpolation that cannot be resolved.
    """
    config = copy.deepcopy(composed)
    with read_write(config), open_dict(config):
        config.hydra.job.num, config.hydra.job.id, config.hydra.runtime.output_dir = 0, "0", "."
        for override in settings:
            key = override.key_or_group
            value = OmegaConf.select(config, key, throw_on_missing=True)
            if OmegaConf.is_config(value):
                OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            _check_levels(key, value)
            if key in _SETTING_CHECKS:
                _SETTING_CHECKS[key](value)


def _check_verbose(value: Any) -> None:
    names = list(value) if OmegaConf.is_list(value) else [value]
    if not isinstance(value, bool) and not all(isinstance(name, str) for name in names):
        raise ValueError("expected true, false, or the names of loggers")


def _check_levels(key: str, value: Any) -> None:
    """Check names of logging levels."""
    if not key.startswith(("hydra.job_logging", "hydra.hydra_logging")):
        return
    if OmegaConf.is_config(value):
        for name, below in value.items() if OmegaConf.is_dict(value) else enumerate(value):
            _check_levels(f"{key}.{name}", below)
    elif key.endswith(".level") and str(value) not in logging.getLevelNamesMapping():
        raise ValueError(f"{key}: expected one of {', '.join(logging.getLevelNamesMapping())}")


def _check_node(value: Any) -> None:
    if not OmegaConf.is_dict(value):
        raise ValueError("expected keys with values")


def _check_chdir(value: Any) -> None:
    if value:
        raise ValueError("expected false: paths are relative to the folder that the command is given in")


def _check_count(value: Any) -> None:
    if value is not None and not (isinstance(value, int) and 1 <= value <= MAX_RUNS):
        raise ValueError(f"expected a whole number at least 1 and at most {MAX_RUNS}")


def _check_name(value: Any) -> None:
    if (
        not isinstance(value, str)
        or not value
        or "/" in value
        or len(value) > MAX_NAME_LENGTH
        or not value.isprintable()
    ):
        raise ValueError(f"expected a file name of at most {MAX_NAME_LENGTH} characters")


# All combinations of a sweep are planned and checked before the first run.
MAX_RUNS = 100_000
_SETTING_CHECKS: dict[str, Callable[[Any], None]] = {
    "hydra.verbose": _check_verbose,
    "hydra.launcher": _check_node,
    "hydra.sweeper": _check_node,
    "hydra.job.chdir": _check_chdir,
    "hydra.job.name": _check_name,
    "hydra.sweeper.max_batch_size": _check_count,
    "hydra.sweeper.n_trials": _check_count,
}


def build_choice_fault(override: Override, error: Exception, options: Sequence[str]) -> Fault:
    """Build the fault of a group choice, or of a Hydra setting, that cannot be composed."""
    key, given = override.key_or_group, format_typed_value(override)
    if options and str(override.value()) not in options:
        return Fault(key, given, f"expected one of {', '.join(options)}")
    return Fault(key, given, _get_first_line(error))


def find_key_fault(override: Override, config: DictConfig) -> Fault | None:
    """Return the fault of a key that does not exist in the schema; Hydra would accept `+key=value` and `~key`."""
    key = override.key_or_group
    if override.is_delete():
        return Fault(f"~{key}", "", "a key cannot be removed: give it another value")
    parent, node, leaf = _locate_key(key, config)
    if isinstance(node, DictConfig) and leaf in list(node):  # `in node` is False for unset keys
        return None
    return Fault(key, format_typed_value(override), _describe_unknown_key(key, parent, node, config))


def build_value_fault(override: Override, error: Exception, config: DictConfig) -> Fault:
    """Build the fault of a value that its key does not accept."""
    key, given = override.key_or_group, format_typed_value(override)
    _, node, leaf = _locate_key(key, config)
    if isinstance(error.__cause__, ValidationError):
        return Fault(key, given, f"expected {describe_type(_get_type_hint(node, leaf))}")
    return Fault(key, given, _get_first_line(error))


def find_text_fault(override: Override, config: DictConfig) -> Fault | None:
    """Return the fault of a text value that is read as a number or a boolean and would be written differently."""
    key, value, given = override.key_or_group, override.value(), format_typed_value(override)
    _, node, leaf = _locate_key(key, config)
    hint = _get_type_hint(node, leaf) if isinstance(node, DictConfig) else Any
    if str not in (hint, *typing.get_args(hint)):
        return None
    listed = value.list if isinstance(value, ChoiceSweep) else value if isinstance(value, list) else [value]
    for item in listed:
        if isinstance(item, int | float) and not re.search(rf"(?<![\w.]){re.escape(str(item))}(?![\w.])", given):
            text = given if listed == [value] else "..."
            return Fault(key, given, f"{item!r} is what is read: quote what is text, as in '{key}=\"{text}\"'")
    return None


def build_unset_fault(key: str) -> Fault:
    """Build the fault of a key without a value that only the user can give."""
    return Fault(key, "", f"not set, and there is no default: add {key}=<value>")


def build_interpolation_fault(error: Exception, group: str) -> Fault:
    """Build the fault of a `${...}` in `group` that cannot be resolved."""
    return Fault(str(getattr(error, "full_key", None) or group), "", _get_first_line(error))


def _locate_key(key: str, config: DictConfig) -> tuple[str, Any, str]:
    """Return the name and the node of the parent of a key, and the last part of the key."""
    parent, _, leaf = key.rpartition(".")
    return parent, OmegaConf.select(config, parent) if parent else config, leaf


def _describe_unknown_key(key: str, parent: str, node: Any, config: DictConfig) -> str:
    text = "no such key"
    near = _find_similar_keys(key, list(_iterate_keys(OmegaConf.to_container(config, resolve=False))))
    if near:
        text += f"; did you mean {' or '.join(near)}?"
    if isinstance(node, DictConfig):
        names = ", ".join(str(name) for name in node if name != "family")
        text += f"{'' if near else '.'} {parent or 'The config'} has {names}"
    return text


def _find_similar_keys(key: str, known: list[str]) -> list[str]:
    """Return the keys whose last part is most similar to that of `key`, from the same group if possible."""
    parent, _, leaf = key.rpartition(".")
    leaves = {other: other.rpartition(".")[2] for other in known}
    siblings = [other for other in known if other.rpartition(".")[0] == parent]
    for pool in (siblings, known):
        best = difflib.get_close_matches(leaf, [leaves[other] for other in pool], n=1, cutoff=0.75)
        if best:
            return [other for other in pool if leaves[other] == best[0]][:3]
    return []


def _iterate_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of groups and of their contents."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from _iterate_keys(value, f"{prefix}{name}.")


def _get_type_hint(node: DictConfig, leaf: str) -> Any:
    kind = OmegaConf.get_type(node)
    return get_type_hints(kind).get(leaf, Any) if kind is not None and dataclasses.is_dataclass(kind) else Any


def find_error_key(error: BaseException) -> str | None:
    """Return the key that a composition error, or its cause, is about."""
    for cause in (error, error.__cause__, error.__context__):
        key = getattr(cause, "full_key", None) or getattr(cause, "key", None)
        if key:
            return str(key)
    return None


def _get_first_line(error: BaseException) -> str:
    """Return the first sentence of a library's message, and of its cause."""
    if isinstance(error, AssertionError | AttributeError | LookupError | RecursionError | TypeError):
        return "this key does not accept this value"  # their messages are about code
    sentences = []
    for cause in (error, error.__cause__):
        first, _, rest = str(cause or "").strip().partition("\n")
        if first.endswith(":"):  # "In 'model/mine': ConfigKeyError raised while composing config:"
            first += " " + rest.strip().partition("\n")[0]
        sentences.append(first.rstrip(".:"))
    return ": ".join(sentence for sentence in dict.fromkeys(sentences) if sentence) or type(error).__name__
