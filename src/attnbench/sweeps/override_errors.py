"""What Hydra and OmegaConf say about an override, as one sentence: key, what was given, what was expected."""

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


def typed(override: Override) -> str:
    """The value as it was typed."""
    return str(override.input_line).partition("=")[2]


def of_syntax(token: str) -> Fault:
    """An override that Hydra's grammar does not know."""
    key, equals, given = token.partition("=")
    if not equals or not key:
        return Fault(token, "", "expected key=value")
    return Fault(key, given, "cannot be read: quote what holds spaces or brackets, as in 'key=\"a (b)\"'")


def of_shape(override: Override, options: Sequence[str]) -> Fault | None:
    """Return the fault of a choice that Hydra would take, and that is not one of the options."""
    key, value = override.key_or_group, override.value()
    if override.is_delete():
        return Fault(f"~{key}", "", f"cannot be taken away: choose another one with {key}=<name>")
    if options and (value is None or isinstance(value, list)):
        return Fault(key, typed(override), f"expected one of {', '.join(options)}")
    return None


def check_settings(composed: DictConfig, settings: Sequence[Override]) -> None:
    """Read settings of Hydra's own as Hydra will: with values in them that come to be known with a run.

    Raises:
        ValueError: a setting of another type or out of bounds.
        OmegaConfBaseException: a setting that has no value, or leads nowhere.
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
            if key in _SETTINGS:
                _SETTINGS[key](value)


def _check_verbose(value: Any) -> None:
    names = list(value) if OmegaConf.is_list(value) else [value]
    if not isinstance(value, bool) and not all(isinstance(name, str) for name in names):
        raise ValueError("expected true, false, or the names of loggers")


def _check_levels(key: str, value: Any) -> None:
    """Check levels of logging, which Python knows by name."""
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
    if value is not None and not (isinstance(value, int) and 1 <= value <= MOST_RUNS):
        raise ValueError(f"expected a whole number at least 1 and at most {MOST_RUNS}")


def _check_name(value: Any) -> None:
    if (
        not isinstance(value, str)
        or not value
        or "/" in value
        or len(value) > MAX_NAME_LENGTH
        or not value.isprintable()
    ):
        raise ValueError(f"expected a file name of at most {MAX_NAME_LENGTH} characters")


# A sweep's combinations are all planned, and checked, before the first run.
MOST_RUNS = 100_000
_SETTINGS: dict[str, Callable[[Any], None]] = {
    "hydra.verbose": _check_verbose,
    "hydra.launcher": _check_node,
    "hydra.sweeper": _check_node,
    "hydra.job.chdir": _check_chdir,
    "hydra.job.name": _check_name,
    "hydra.sweeper.max_batch_size": _check_count,
    "hydra.sweeper.n_trials": _check_count,
}


def of_choice(override: Override, error: Exception, options: Sequence[str]) -> Fault:
    """A group's choice, or a setting of Hydra's own, that does not compose."""
    key, given = override.key_or_group, typed(override)
    if options and str(override.value()) not in options:
        return Fault(key, given, f"expected one of {', '.join(options)}")
    return Fault(key, given, _first_line(error))


def of_key(override: Override, config: DictConfig) -> Fault | None:
    """A key that is not there, or would not be: Hydra takes `+key=value` and `~key` against any schema."""
    key = override.key_or_group
    if override.is_delete():
        return Fault(f"~{key}", "", "a key cannot be taken away: give it another value")
    parent, node, leaf = _place(key, config)
    if isinstance(node, DictConfig) and leaf in list(node):  # `in node` alone is false for one that is unset
        return None
    return Fault(key, typed(override), _no_such_key(key, parent, node, config))


def of_value(override: Override, error: Exception, config: DictConfig) -> Fault:
    """A value that its key does not take."""
    key, given = override.key_or_group, typed(override)
    _, node, leaf = _place(key, config)
    if isinstance(error.__cause__, ValidationError):
        return Fault(key, given, f"expected {describe_type(_hint(node, leaf))}")
    return Fault(key, given, _first_line(error))


def of_text(override: Override, config: DictConfig) -> Fault | None:
    """Return the fault of a value for text that is read as a number, or as true or false, and written otherwise."""
    key, value, given = override.key_or_group, override.value(), typed(override)
    _, node, leaf = _place(key, config)
    hint = _hint(node, leaf) if isinstance(node, DictConfig) else Any
    if str not in (hint, *typing.get_args(hint)):
        return None
    listed = value.list if isinstance(value, ChoiceSweep) else value if isinstance(value, list) else [value]
    for item in listed:
        if isinstance(item, int | float) and not re.search(rf"(?<![\w.]){re.escape(str(item))}(?![\w.])", given):
            text = given if listed == [value] else "..."
            return Fault(key, given, f"{item!r} is what is read: quote what is text, as in '{key}=\"{text}\"'")
    return None


def of_unset(key: str) -> Fault:
    """A value that only the user can know."""
    return Fault(key, "", f"not set, and there is no default: add {key}=<value>")


def of_interpolation(error: Exception, group: str) -> Fault:
    """Return the fault of a `${...}` in `group` that cannot be resolved."""
    return Fault(str(getattr(error, "full_key", None) or group), "", _first_line(error))


def _place(key: str, config: DictConfig) -> tuple[str, Any, str]:
    """What holds a key, by name and as it is, and the key's own last part."""
    parent, _, leaf = key.rpartition(".")
    return parent, OmegaConf.select(config, parent) if parent else config, leaf


def _no_such_key(key: str, parent: str, node: Any, config: DictConfig) -> str:
    text = "no such key"
    near = _nearest(key, list(_keys(OmegaConf.to_container(config, resolve=False))))
    if near:
        text += f"; did you mean {' or '.join(near)}?"
    if isinstance(node, DictConfig):
        names = ", ".join(str(name) for name in node if name != "family")
        text += f"{'' if near else '.'} {parent or 'The config'} has {names}"
    return text


def _nearest(key: str, known: list[str]) -> list[str]:
    """The keys whose last part is most like that of `key`: in the same place if there are any."""
    parent, _, leaf = key.rpartition(".")
    leaves = {other: other.rpartition(".")[2] for other in known}
    siblings = [other for other in known if other.rpartition(".")[0] == parent]
    for pool in (siblings, known):
        best = difflib.get_close_matches(leaf, [leaves[other] for other in pool], n=1, cutoff=0.75)
        if best:
            return [other for other in pool if leaves[other] == best[0]][:3]
    return []


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key, of groups and of what they hold."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from _keys(value, f"{prefix}{name}.")


def _hint(node: DictConfig, leaf: str) -> Any:
    kind = OmegaConf.get_type(node)
    return get_type_hints(kind).get(leaf, Any) if kind is not None and dataclasses.is_dataclass(kind) else Any


def key_of(error: BaseException) -> str | None:
    """Return the key that an error of composing, or the one that it hides, is about."""
    for cause in (error, error.__cause__, error.__context__):
        key = getattr(cause, "full_key", None) or getattr(cause, "key", None)
        if key:
            return str(key)
    return None


def _first_line(error: BaseException) -> str:
    """The first sentence of a library's message, and of the one that it hides."""
    if isinstance(error, AssertionError | AttributeError | LookupError | RecursionError | TypeError):
        return "not what this key takes"  # their text is about code
    said = []
    for cause in (error, error.__cause__):
        first, _, rest = str(cause or "").strip().partition("\n")
        if first.endswith(":"):  # "In 'model/mine': ConfigKeyError raised while composing config:"
            first += " " + rest.strip().partition("\n")[0]
        said.append(first.rstrip(".:"))
    return ": ".join(sentence for sentence in dict.fromkeys(said) if sentence) or type(error).__name__
