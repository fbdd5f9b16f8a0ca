"""Composition by Hydra without running anything: groups are composed once per choice, values are set afterwards."""

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
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from attnbench.config import Config, ConfigError, Fault
from attnbench.config import root as schema
from attnbench.config.folder import CONFIG_FOLDER
from attnbench.data.checksums import validate_config
from attnbench.records.identity import compute_run_id
from attnbench.sweeps import override_errors
from attnbench.sweeps.user_files import find_fault

CONFIG_NAME = "config"
VERSION_BASE = "1.3"
# What composing may raise: besides what they document, Hydra and OmegaConf let errors of Python through where a value
# has another shape than they expect.
_REFUSALS = (
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
def register() -> None:
    """Make the schema and our resolvers known to Hydra, in this process; a second time changes nothing."""
    version.setbase(VERSION_BASE)
    setup_globals()
    schema.register_schema()
    OmegaConf.register_new_resolver("run_id", _run_id, replace=True)


def without_hydra(composed: DictConfig) -> DictConfig:
    """A copy that holds the run's config alone."""
    bare = copy.deepcopy(composed)
    with read_write(bare), open_dict(bare):
        bare.pop("hydra", None)
    return bare


def _run_id(*, _root_: DictConfig) -> str:
    """`${run_id:}`: the folder that a run has, whatever it is started by."""
    return compute_run_id(validate_config(without_hydra(_root_)))


@dataclass(frozen=True)
class Chosen:
    """The config that a set of group choices gives, before any value is set."""

    composed: DictConfig  # with the node `hydra`
    values: Values  # without it
    faults: tuple[Fault, ...]  # choices that had to be left out
    unsure: frozenset[str]  # groups that cannot be judged without those

    @property
    def bare(self) -> DictConfig:
        """The config without the node `hydra` and without values."""
        return self.values.config


class Values:
    """A composed config, on which overrides of values are set and taken back again.

    Copying a config and turning it into dataclasses takes most of the time of planning a large sweep. So only
    the groups that an override names are copied, and the other groups are turned into dataclasses once. Groups with
    interpolations are turned anew each time, since an override elsewhere may change them.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self._unset = {str(name): _unset_keys(config, str(name)) for name in config}
        self._constant: dict[str, Any] = {}
        for name in config:
            node = config._get_node(name)
            if not self._unset[str(name)] and not any(below._is_interpolation() for below in _nodes(node)):
                self._constant[str(name)] = _plain(config, str(name))

    def check(self, overrides: Sequence[Override]) -> tuple[Config | None, list[Fault]]:
        """Set values and check the config that results.

        Args:
            overrides: values in the order in which Hydra applies them; none is a choice of a group or a sweep.

        Returns:
            The config (None if something is wrong with it), and every fault.
        """
        content: dict[Any, Any] = self.config.__dict__["_content"]
        before, wrong = dict(content), []
        touched: set[str] = set()
        try:
            for override in overrides:
                fault = override_errors.of_key(override, self.config)
                if fault is not None:
                    wrong.append(fault)
                    continue
                name = re.split(r"[.\[]", override.key_or_group)[0]
                if name not in touched:
                    touched.add(name)
                    content[name] = copy.deepcopy(before[name])
                fault = apply(override, self.config)
                if fault is not None:
                    wrong.append(fault)
            checked, more = self._judge(touched)
        finally:
            content.clear()
            content.update(before)
        return checked, [*wrong, *more]

    def _judge(self, touched: set[str]) -> tuple[Config | None, list[Fault]]:
        unset = [
            key
            for name in self._unset
            for key in (_unset_keys(self.config, name) if name in touched else self._unset[name])
        ]
        if unset:
            return None, [override_errors.of_unset(key) for key in sorted(unset)]
        parts: dict[str, Any] = {}
        wrong = []
        for name in self._unset:
            if name in self._constant and name not in touched:
                parts[name] = copy.deepcopy(self._constant[name])  # a caller may change what it gets
                continue
            try:
                parts[name] = _plain(self.config, name)
            except _REFUSALS as error:
                wrong.append(override_errors.of_interpolation(error, name))
        if wrong:
            return None, wrong
        try:
            return validate_config(Config(**parts)), []
        except ConfigError as error:
            return None, error.faults


def apply(override: Override, config: DictConfig) -> Fault | None:
    """Set one value with Hydra's own function.

    Returns:
        The fault if the key does not take the value.
    """
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except _REFUSALS as error:
        return override_errors.of_value(override, error, config)
    return None


@dataclass(frozen=True)
class JobConfig:
    """The config of one Hydra job as parts that many jobs share; `build` is called where the job runs."""

    chosen: DictConfig  # what the groups give, the node `hydra` included; never changed
    values: tuple[str, ...]  # overrides of values
    lines: tuple[str, ...]  # every override of the job
    number: int
    hydra: dict[str, Any]  # values of the node `hydra` that are the same for each job of a command
    cache: dict[str, Any]  # what resolvers such as `now` have returned before

    def build(self) -> DictConfig:
        """Return what `ConfigLoader.load_sweep_config` returns for the job's overrides, with the job's number."""
        config = copy.deepcopy(self.chosen)
        OmegaConf.set_cache(config, self.cache)
        ConfigLoaderImpl._apply_overrides_to_config(OverridesParser.create().parse_overrides(list(self.values)), config)
        parsed = OverridesParser.create().parse_overrides(list(self.lines))
        with read_write(config.hydra), open_dict(config.hydra):
            for key, value in self.hydra.items():
                OmegaConf.update(config, f"hydra.{key}", value, merge=False)
            config.hydra.overrides.task = list(self.lines)
            names = config.hydra.job.config.override_dirname
            config.hydra.job.override_dirname = get_overrides_dirname(
                overrides=parsed, kv_sep=names.kv_sep, item_sep=names.item_sep, exclude_keys=names.exclude_keys
            )
            config.hydra.job.id = config.hydra.job.num = self.number
        return config


@functools.cache
def shared_composer(config_dir: str | None = None) -> Composer:
    """Return the composer of this process for a folder of the user's own groups: planner and launcher share it."""
    return Composer(config_dir)


def composer_of(master: DictConfig) -> Composer:
    """Return the shared composer for the folder of groups that Hydra was started with.

    Args:
        master: the config that Hydra composed for the command, with the node `hydra`.
    """
    sources = master.hydra.runtime.config_sources
    own = [source.path for source in sources if source.provider == "command-line"]
    return shared_composer(own[0] if own else None)


class Composer:
    """Turns overrides into a Config, or into everything that is wrong with them.

    Hydra stops at the first error, and takes a quarter of a second for each composition. So the choices
    (`model=tiny`) of a combination are composed once, and looked at one by one only if together they fail;
    values (`model.depth=2`) are set with Hydra's own function, in Hydra's own order.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        register()
        path = create_config_search_path(str(CONFIG_FOLDER))
        if config_dir is not None:
            folder = Path(config_dir).resolve()
            if not folder.is_dir():
                raise ConfigError([Fault("--config-dir", config_dir, "expected a folder that is there")])
            path.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
        self._folder = Path(config_dir) if config_dir is not None else None
        self._loader = ConfigLoaderImpl(config_search_path=path)
        self._parser = OverridesParser.create(config_loader=self._loader)
        self._parsed: dict[str, Override | Fault] = {}
        self._chosen: dict[tuple[str, ...], Chosen] = {}
        self._groups: dict[str, bool] = {}

    def parse(self, tokens: Iterable[str]) -> tuple[list[Override], list[Fault]]:
        """The overrides that can be read, and the faults of those that cannot."""
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
            except _REFUSALS:
                self._parsed[token] = override_errors.of_syntax(token)
            if token.startswith("="):
                self._parsed[token] = override_errors.of_syntax(token)
        return self._parsed[token]

    def compose(self, overrides: Sequence[Override]) -> tuple[Config | None, list[Fault]]:
        """The config of one run (None if there are faults) and every fault; no override is a sweep."""
        chosen = self.choose(overrides)
        checked, wrong = chosen.values.check([override for override in overrides if not self._is_choice(override)])
        given = {override.key_or_group: override_errors.typed(override) for override in overrides} if wrong else {}
        wrong = [
            dataclasses.replace(fault, given=given.get(fault.key, fault.given))
            for fault in wrong
            if fault.key.partition(".")[0] not in chosen.unsure
        ]
        if chosen.faults or wrong:
            checked = None
        return checked, [*chosen.faults, *wrong]

    def choose(self, overrides: Sequence[Override]) -> Chosen:
        """What the group choices and Hydra settings among `overrides` give."""
        choices = [override for override in overrides if self._is_choice(override)]
        key = tuple(str(choice.input_line) for choice in choices)
        if key not in self._chosen:
            self._chosen[key] = self._choose(choices)
        return self._chosen[key]

    def job(self, master: DictConfig, lines: Sequence[str], number: int) -> tuple[Config, JobConfig]:
        """Compose one job of a multirun, as Hydra's `load_sweep_config` does.

        Args:
            master: the config that Hydra composed for the command.
            lines: the job's overrides, Hydra's own settings not among them.
            number: the job's number within the command.

        Raises:
            ConfigError: with every fault of the overrides.
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
        chosen = self.choose([*settings, *overrides])
        cache = OmegaConf.get_cache(chosen.bare)
        return config, JobConfig(chosen.composed, values, tuple(lines), number, same, cache)

    def help(self, overrides: Sequence[Override]) -> str:
        """`hydra.help.template` with every group, what is chosen in it and what there is.

        Hydra's own `--help` copies its whole store of configs for each group that it lists, which takes seconds.

        Raises:
            ConfigError: a choice that cannot be made.
        """
        chosen = self.choose(overrides)
        if chosen.faults:
            raise ConfigError(list(chosen.faults))
        hydra = chosen.composed.hydra
        rows = [("GROUP", "CHOSEN", "CHOICES")]
        for group in self._loader.repository.get_group_options("", ObjectType.GROUP):
            options = self._options(group)
            if options and group != "hydra":
                rows.append((group, str(hydra.runtime.choices.get(group, "")), ", ".join(options)))
        return Template(hydra.help.template).safe_substitute(APP_CONFIG_GROUPS=_columns(rows))

    def overridden(self, file: str) -> set[str]:
        """Hydra's own groups, such as launcher, that a config file chooses anew."""
        found = self._loader.repository.load_config(file)
        listed = found.defaults_list if found is not None else None
        groups = [getattr(item, "group", None) or "" for item in listed or []]
        return {group.rpartition("/")[2] for group in groups if group.lstrip("/").startswith("hydra/")}

    def _choose(self, choices: list[Override]) -> Chosen:
        accepted: list[Override] = []
        refused: list[Override] = []
        wrong: list[Fault] = []
        for choice in choices:
            fault = override_errors.of_shape(choice, self._options(choice.key_or_group))
            (accepted if fault is None else refused).append(choice)
            wrong += [] if fault is None else [fault]
        try:
            composed = self._compose(accepted)
        except _REFUSALS:
            tried, accepted = accepted, []
            for choice in tried:
                try:
                    self._compose([*accepted, choice])
                    accepted.append(choice)
                except _REFUSALS as error:
                    refused.append(choice)
                    fault = override_errors.of_choice(choice, error, self._options(choice.key_or_group))
                    wrong.append(self._fault_of_file(choice, override_errors.key_of(error)) or fault)
            composed = self._compose(accepted)
        for choice in accepted:
            fault = self._fault_of_file(choice)
            wrong += [] if fault is None else [fault]
        unsure: set[str] = set()
        for choice in refused:
            group = choice.key_or_group
            unsure |= set(schema.SCHEMAS) if group == "experiment" else {group}
        return Chosen(composed, Values(without_hydra(composed)), tuple(wrong), frozenset(unsure))

    def _fault_of_file(self, choice: Override, key: str | None = None) -> Fault | None:
        """Return the fault of the file that a choice names, if it is one of the user's own."""
        if self._folder is None or choice.key_or_group.startswith("hydra"):
            return None
        file = self._folder / choice.key_or_group / f"{choice.value()}.yaml"
        sentence = find_fault(file, choice.key_or_group, key) if file.is_file() else None
        return None if sentence is None else Fault(choice.key_or_group, override_errors.typed(choice), sentence)

    def _compose(self, choices: list[Override]) -> DictConfig:
        """Compose, and look at the settings of Hydra's own, which nothing checks before they are used."""
        composed = self._load(choices)
        settings = [choice for choice in choices if choice.key_or_group.startswith("hydra.")]
        if settings:
            override_errors.check_settings(composed, settings)
        return composed

    def _load(self, choices: list[Override]) -> DictConfig:
        lines = [str(choice.input_line) for choice in choices]
        return self._loader.load_configuration(CONFIG_NAME, lines, RunMode.RUN)

    def _is_choice(self, override: Override) -> bool:
        group = override.key_or_group
        if override.is_hydra_override():
            return True
        if group not in self._groups:
            self._groups[group] = self._loader.repository.group_exists(group)
        return self._groups[group] and not override.is_delete() and not isinstance(override.value(), dict)

    def _options(self, group: str) -> list[str]:
        return self._loader.repository.get_group_options(group, ObjectType.CONFIG) if "." not in group else []


def _columns(rows: Sequence[tuple[str, str, str]]) -> str:
    """Three columns, the last of which goes on below itself."""
    first, second = (max(len(row[column]) for row in rows) + 2 for column in (0, 1))
    indent = " " * (2 + first + second)
    return "\n".join(
        textwrap.fill(row[2], 118, initial_indent=f"  {row[0]:{first}}{row[1]:{second}}", subsequent_indent=indent)
        for row in rows
    )


def _unset_keys(config: DictConfig, name: str) -> list[str]:
    """The full keys of a top-level key, and of what it holds, that have no value."""
    return [node._get_full_key(None) for node in _nodes(config._get_node(name)) if node._is_missing()]


def _nodes(node: Any) -> Iterator[Any]:
    """A node of a config and every node below it, interpolations not followed."""
    yield node
    content = node.__dict__["_content"] if OmegaConf.is_config(node) else None
    for child in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _nodes(child)


def _plain(config: DictConfig, name: str) -> Any:
    """The value of a top-level key: a dataclass for a group, with interpolations resolved."""
    value = config[name]
    return OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
