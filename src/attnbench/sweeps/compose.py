"""Composition of configs without running Hydra: group choices are composed once each, then values are set."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import BooleanNode, DictConfig, EnumNode, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from attnbench.config import Config, ConfigError, Fault
from attnbench.config import root as schema
from attnbench.config.fields import find_faults
from attnbench.config.folder import CONFIG_FOLDER
from attnbench.config.tracking import SweepConfig
from attnbench.data.checksums import validate_config
from attnbench.records.identity import compute_run_id
from attnbench.sweeps import override_errors
from attnbench.sweeps.user_files import find_fault

CONFIG_NAME = "config"
VERSION_BASE = "1.3"
# Errors of composition: Hydra and OmegaConf also pass on Python's own errors if a value
# has another shape than they expect.
_COMPOSITION_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


@functools.cache
def register_schema() -> None:
    """Register the schema and the resolvers with Hydra, once for each process."""
    version.setbase(VERSION_BASE)
    setup_globals()
    schema.register_schema()
    OmegaConf.register_new_resolver("run_id", _resolve_run_id, replace=True)


def remove_hydra_node(composed: DictConfig) -> DictConfig:
    """Return a copy of a composed config without the node `hydra`."""
    bare = copy.deepcopy(composed)
    with read_write(bare), open_dict(bare):
        bare.pop("hydra", None)
    return bare


def _resolve_run_id(*, _root_: DictConfig) -> str:
    """Resolve `${run_id:}`, the name of a run's folder."""
    return compute_run_id(validate_config(remove_hydra_node(_root_)))


@dataclass(frozen=True)
class ComposedChoices:
    """Config that a set of group choices gives, before any value is set."""

    composed: DictConfig  # with the node `hydra`
    values: ConfigValues  # without it
    faults: tuple[Fault, ...]  # choices that were left out because they are wrong
    uncertain_keys: frozenset[str]  # groups that cannot be checked without those

    @property
    def run_config(self) -> DictConfig:
        """Config without the node `hydra` and without values."""
        return self.values.config


class ConfigValues:
    """A composed config on which overrides of values are set and reset.

    Copying a config and converting it to dataclasses takes most of the time of planning a large sweep. So only the
    groups that an override changes are copied, and the other groups are converted once. Groups with interpolations
    are converted each time, because an override of another group may change them.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self._unset = {str(name): _find_unset_keys(config, str(name)) for name in config}
        self._constant: dict[str, Any] = {}
        for name in config:
            node = config._get_node(name)
            if not self._unset[str(name)] and not any(below._is_interpolation() for below in _iterate_nodes(node)):
                self._constant[str(name)] = _convert_to_plain_data(config, str(name))

    def set_and_check(self, overrides: Sequence[Override]) -> tuple[Config | None, list[Fault]]:
        """Set values and check the resulting config.

        Args:
            overrides: values in the order in which Hydra applies them; no group choices and no sweeps.

        Returns:
            The config (None if there are faults), and all faults.
        """
        content: dict[Any, Any] = self.config.__dict__["_content"]
        before, wrong = dict(content), []
        touched: set[str] = set()
        try:
            for override in overrides:
                fault = override_errors.find_key_fault(override, self.config)
                if fault is not None:
                    wrong.append(fault)
                    continue
                name = re.split(r"[.\[]", override.key_or_group)[0]
                if name not in touched:
                    touched.add(name)
                    content[name] = copy.deepcopy(before[name])
                fault = apply_override(override, self.config)
                if fault is not None:
                    wrong.append(fault)
            checked, more = self._check_groups(touched)
        finally:
            content.clear()
            content.update(before)
        return checked, [*wrong, *more]

    def _check_groups(self, changed_groups: set[str]) -> tuple[Config | None, list[Fault]]:
        """Convert and check the config; only the changed groups are converted again."""
        unset = [
            key
            for name in self._unset
            for key in (_find_unset_keys(self.config, name) if name in changed_groups else self._unset[name])
        ]
        if unset:
            return None, [override_errors.build_unset_fault(key) for key in sorted(unset)]
        parts: dict[str, Any] = {}
        wrong = []
        for name in self._unset:
            if name in self._constant and name not in changed_groups:
                parts[name] = copy.deepcopy(self._constant[name])  # callers may change the result
                continue
            try:
                parts[name] = _convert_to_plain_data(self.config, name)
            except _COMPOSITION_ERRORS as error:
                wrong.append(override_errors.build_interpolation_fault(error, name))
        if wrong:
            return None, wrong
        try:
            return validate_config(Config(**parts)), []
        except ConfigError as error:
            return None, error.faults


def apply_override(override: Override, config: DictConfig) -> Fault | None:
    """Set one value with Hydra's own function.

    Returns:
        A fault if the key does not accept the value, else None.
    """
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except _COMPOSITION_ERRORS as error:
        return override_errors.build_value_fault(override, error, config)
    return None


@dataclass(frozen=True)
class JobConfig:
    """Config of one Hydra job, in parts that many jobs share; `build_config` is called in the job's process."""

    base_config: DictConfig  # result of all groups, with the node `hydra`; never changed
    values: tuple[str, ...]  # overrides of values
    overrides: tuple[str, ...]  # every override of the job
    number: int
    hydra: dict[str, Any]  # values of the node `hydra` that all jobs of a command share
    cache: dict[str, Any]  # cached results of resolvers such as `now`

    def build_config(self) -> DictConfig:
        """Return the config that `ConfigLoader.load_sweep_config` returns for the job's overrides and number."""
        config = copy.deepcopy(self.base_config)
        OmegaConf.set_cache(config, self.cache)
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(list(self.values)), config)
        parsed = OverridesParser.create().parse_overrides(list(self.overrides))
        with read_write(config.hydra), open_dict(config.hydra):
            for key, value in self.hydra.items():
                OmegaConf.update(config, f"hydra.{key}", value, merge=False)
            config.hydra.overrides.task = list(self.overrides)
            names = config.hydra.job.config.override_dirname
            config.hydra.job.override_dirname = get_overrides_dirname(
                overrides=parsed, kv_sep=names.kv_sep, item_sep=names.item_sep, exclude_keys=names.exclude_keys
            )
            config.hydra.job.id = config.hydra.job.num = self.number
        return config


@functools.cache
def get_shared_composer(config_dir: str | None = None) -> Composer:
    """Return this process's composer for a folder of user config groups; planner and launcher share it."""
    return Composer(config_dir)


def get_composer(master: DictConfig) -> Composer:
    """Return the shared composer for the config folder that Hydra was started with.

    Args:
        master: config that Hydra composed for the command, with the node `hydra`.
    """
    sources = master.hydra.runtime.config_sources
    own = [source.path for source in sources if source.provider == "command-line"]
    return get_shared_composer(own[0] if own else None)


class Composer:
    """Composes overrides to a Config, or returns all their faults.

    Hydra stops at the first error and takes a quarter of a second for each composition. So the group choices
    (`model=tiny`) of a combination are composed once, and examined one by one only if they fail together. Values
    (`model.depth=2`) are set with Hydra's own function, in Hydra's order.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        register_schema()
        path = create_config_search_path(str(CONFIG_FOLDER))
        if config_dir is not None:
            folder = Path(config_dir).resolve()
            if not folder.is_dir():
                raise ConfigError([Fault("--config-dir", config_dir, "expected an existing folder")])
            path.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
        self._folder = Path(config_dir) if config_dir is not None else None
        self._loader = ConfigLoaderImpl(config_search_path=path)
        self._parser = OverridesParser.create(config_loader=self._loader)
        self._parsed: dict[str, Override | Fault] = {}
        self._chosen: dict[tuple[str, ...], ComposedChoices] = {}
        self._groups: dict[str, bool] = {}

    def parse(self, tokens: Iterable[str]) -> tuple[list[Override], list[Fault]]:
        """Parse overrides; return those that are valid, and the faults of the others."""
        found, wrong = [], []
        for token in tokens:
            parsed = self._parse(token)
            if isinstance(parsed, Fault):
                wrong.append(parsed)
            else:
                found.append(parsed)
        return found, wrong

    def _parse(self, token: str) -> Override | Fault:
        if token not in self._parsed:
            try:
                (self._parsed[token],) = self._parser.parse_overrides([token])
            except _COMPOSITION_ERRORS:
                self._parsed[token] = override_errors.build_syntax_fault(token)
            if token.startswith("="):
                self._parsed[token] = override_errors.build_syntax_fault(token)
        return self._parsed[token]

    def compose(self, overrides: Sequence[Override]) -> tuple[Config | None, list[Fault]]:
        """Compose the config of one run.

        Args:
            overrides: group choices and values, without sweeps.

        Returns:
            The config (None if there are faults), and all faults.
        """
        chosen = self.compose_choices(overrides)
        checked, wrong = chosen.values.set_and_check(
            [override for override in overrides if not self._is_choice(override)]
        )
        given = (
            {override.key_or_group: override_errors.format_typed_value(override) for override in overrides}
            if wrong
            else {}
        )
        wrong = [
            dataclasses.replace(fault, given=given.get(fault.key, fault.given))
            for fault in wrong
            if fault.key.partition(".")[0] not in chosen.uncertain_keys
        ]
        if chosen.faults or wrong:
            checked = None
        return checked, [*chosen.faults, *wrong]

    def compose_choices(self, overrides: Sequence[Override]) -> ComposedChoices:
        """Compose the group choices and Hydra settings among `overrides`."""
        choices = [override for override in overrides if self._is_choice(override)]
        key = tuple(str(choice.input_line) for choice in choices)
        if key not in self._chosen:
            self._chosen[key] = self._compose_choices(choices)
        return self._chosen[key]

    def compose_job(self, master: DictConfig, lines: Sequence[str], number: int) -> tuple[Config, JobConfig]:
        """Compose one job of a multirun, as Hydra's `load_sweep_config` does.

        Args:
            master: config that Hydra composed for the command.
            lines: the job's overrides, without Hydra's own settings.
            number: number of the job within the command.

        Raises:
            ConfigError: with all faults of the overrides.
        """
        hydra = OmegaConf.to_container(master.hydra.overrides.hydra, resolve=False)
        assert isinstance(hydra, list)
        settings, wrong = self.parse(line for line in hydra if not line.startswith("hydra.mode="))
        overrides, more = self.parse(lines)
        config, yet_more = self.compose([*settings, *overrides])
        if config is None or wrong or more:
            raise ConfigError([*wrong, *more, *yet_more])
        same = {
            "mode": master.hydra.mode,
            "overrides.hydra": hydra,
            "job.name": OmegaConf.to_container(master.hydra.job, resolve=False)["name"],  # type: ignore[index,call-overload]
            "runtime.config_sources": OmegaConf.to_object(master.hydra.runtime.config_sources),
            "runtime.cwd": master.hydra.runtime.cwd,
        }
        values = tuple(str(override.input_line) for override in overrides if not self._is_choice(override))
        chosen = self.compose_choices([*settings, *overrides])
        cache = OmegaConf.get_cache(chosen.run_config)
        return config, JobConfig(chosen.composed, values, tuple(lines), number, same, cache)

    def format_help(self, overrides: Sequence[Override]) -> str:
        """Return `hydra.help.template`, filled with all groups, their options and the chosen ones.

        Hydra's own `--help` copies its whole config store for each group, which takes seconds.

        Raises:
            ConfigError: if a choice is not valid.
        """
        chosen = self.compose_choices(overrides)
        if chosen.faults:
            raise ConfigError(list(chosen.faults))
        hydra = chosen.composed.hydra
        rows = [("GROUP", "CHOSEN", "CHOICES")]
        for group in self._loader.repository.get_group_options("", ObjectType.GROUP):
            options = self.list_options(group)
            if options and group != "hydra":
                rows.append((group, str(hydra.runtime.choices.get(group, "")), ", ".join(options)))
        return Template(hydra.help.template).safe_substitute(APP_CONFIG_GROUPS=_format_columns(rows))

    def compose_sweep_options(self, overrides: Sequence[Override]) -> SweepConfig | None:
        """Return the options of a sweep, which swept values cannot change; None if they are not valid.

        Args:
            overrides: overrides of the command; the rest of its config need not be valid.
        """
        fixed = [override for override in overrides if not override.is_sweep_override()]
        config = copy.deepcopy(self.compose_choices(fixed).run_config)
        for override in fixed:
            if override.key_or_group.startswith("sweep.") and apply_override(override, config) is not None:
                return None
        try:
            options = OmegaConf.to_object(config.sweep)
        except OmegaConfBaseException:
            return None
        return options if isinstance(options, SweepConfig) and not list(find_faults(options)) else None

    def complete_override(self, given: Sequence[str], start: str) -> list[str]:
        """List the overrides that may begin with `start`: groups and keys, or the values of a group or key.

        Args:
            given: the other overrides; those that are not valid are ignored.
            start: beginning of an override.

        Returns:
            Beginnings of overrides; those that are complete end with a space.
        """
        overrides, _ = self.parse(given)
        config = self.compose_choices(overrides).composed
        key, is_assigned, _ = start.partition("=")
        if is_assigned:
            found = [f"{key}={value} " for value in self.list_options(key) or _list_values(config, key)]
        else:
            groups = self._loader.repository.get_group_options("", ObjectType.GROUP)
            named = [f"{group}=" for group in groups if group not in ("hydra", "schema")]
            found = [*named, *_list_keys(config, key.rpartition(".")[0])]
        return sorted(word for word in found if word.startswith(start))

    def find_overridden_groups(self, file: str) -> set[str]:
        """Return Hydra's own groups, such as launcher, that a config file overrides."""
        found = self._loader.repository.load_config(file)
        listed = found.defaults_list if found is not None else None
        groups = [getattr(item, "group", None) or "" for item in listed or []]
        return {group.rpartition("/")[2] for group in groups if group.lstrip("/").startswith("hydra/")}

    def _compose_choices(self, choices: list[Override]) -> ComposedChoices:
        accepted: list[Override] = []
        refused: list[Override] = []
        wrong: list[Fault] = []
        for choice in choices:
            fault = override_errors.find_choice_fault(choice, self.list_options(choice.key_or_group))
            (accepted if fault is None else refused).append(choice)
            wrong += [] if fault is None else [fault]
        try:
            composed = self._compose_and_check(accepted)
        except _COMPOSITION_ERRORS:
            tried, accepted = accepted, []
            for choice in tried:
                try:
                    self._compose_and_check([*accepted, choice])
                    accepted.append(choice)
                except _COMPOSITION_ERRORS as error:
                    refused.append(choice)
                    fault = override_errors.build_choice_fault(choice, error, self.list_options(choice.key_or_group))
                    wrong.append(self._find_file_fault(choice, override_errors.find_error_key(error)) or fault)
            composed = self._compose_and_check(accepted)
        for choice in accepted:
            fault = self._find_file_fault(choice)
            wrong += [] if fault is None else [fault]
        unsure: set[str] = set()
        for choice in refused:
            group = choice.key_or_group
            unsure |= set(schema.SCHEMAS) if group == "experiment" else {group}
        return ComposedChoices(composed, ConfigValues(remove_hydra_node(composed)), tuple(wrong), frozenset(unsure))

    def _find_file_fault(self, choice: Override, key: str | None = None) -> Fault | None:
        """Return the fault in the file that a choice names, if the file is the user's."""
        if self._folder is None or choice.key_or_group.startswith("hydra"):
            return None
        file = self._folder / choice.key_or_group / f"{choice.value()}.yaml"
        sentence = find_fault(file, choice.key_or_group, key) if file.is_file() else None
        return (
            None
            if sentence is None
            else Fault(choice.key_or_group, override_errors.format_typed_value(choice), sentence)
        )

    def _compose_and_check(self, choices: list[Override]) -> DictConfig:
        """Compose group choices, and check Hydra's own settings, which Hydra checks only when it uses them."""
        composed = self._load_config(choices)
        settings = [choice for choice in choices if choice.key_or_group.startswith("hydra.")]
        if settings:
            override_errors.check_settings(composed, settings)
        return composed

    def _load_config(self, choices: list[Override]) -> DictConfig:
        lines = [str(choice.input_line) for choice in choices]
        return self._loader.load_configuration(CONFIG_NAME, lines, RunMode.RUN)

    def _is_choice(self, override: Override) -> bool:
        group = override.key_or_group
        if override.is_hydra_override():
            return True
        if group not in self._groups:
            self._groups[group] = self._loader.repository.group_exists(group)
        return self._groups[group] and not override.is_delete() and not isinstance(override.value(), dict)

    def list_options(self, group: str) -> list[str]:
        """List the options of a config group; none if there is no such group."""
        return self._loader.repository.get_group_options(group, ObjectType.CONFIG) if "." not in group else []


def _format_columns(rows: Sequence[tuple[str, str, str]]) -> str:
    """Format rows of three columns; long text in the last column continues below itself."""
    first, second = (max(len(row[column]) for row in rows) + 2 for column in (0, 1))
    indent = " " * (2 + first + second)
    return "\n".join(
        textwrap.fill(row[2], 118, initial_indent=f"  {row[0]:{first}}{row[1]:{second}}", subsequent_indent=indent)
        for row in rows
    )


def _list_keys(config: DictConfig, parent: str) -> list[str]:
    """List the keys of a node: with a dot if keys follow, with "=" if a value follows."""
    node = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, DictConfig):
        return []
    names = [str(name) for name in node if parent or name != "hydra"]
    return [
        f"{parent}{'.' if parent else ''}{name}{'.' if isinstance(node._get_node(name), DictConfig) else '='}"
        for name in names
    ]


def _list_values(config: DictConfig, key: str) -> list[str]:
    """List the values of a key that has a fixed set of them."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    value = node._get_node(name) if isinstance(node, DictConfig) and name in node else None
    if isinstance(value, EnumNode):
        return list(value.enum_type.__members__)
    return ["false", "true"] if isinstance(value, BooleanNode) else []


def _find_unset_keys(config: DictConfig, name: str) -> list[str]:
    """Return the full keys without a value at and below a top-level key."""
    return [node._get_full_key(None) for node in _iterate_nodes(config._get_node(name)) if node._is_missing()]


def _iterate_nodes(node: Any) -> Iterator[Any]:
    """Yield a node of a config and all nodes below it; interpolations are not followed."""
    yield node
    content = node.__dict__["_content"] if OmegaConf.is_config(node) else None
    for child in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _iterate_nodes(child)


def _convert_to_plain_data(config: DictConfig, name: str) -> Any:
    """Return the value of a top-level key, with interpolations resolved; a dataclass for a group."""
    value = config[name]
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
