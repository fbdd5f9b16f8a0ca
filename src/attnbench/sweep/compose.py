"""Hydra's composition without running anything: groups are chosen once, values are then set on copies."""

from __future__ import annotations

import copy
import dataclasses
import functools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
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
from attnbench.data.content import check
from attnbench.identity import run_id
from attnbench.sweep import faults

CONFIG_PATH = "pkg://attnbench.conf"
CONFIG_NAME = "config"
VERSION_BASE = "1.3"
_REFUSALS = (HydraException, OmegaConfBaseException, ValueError, yaml.YAMLError)  # what composing may raise


@functools.cache
def register() -> None:
    """Make the schema and our resolvers known to Hydra, in this process; a second time changes nothing."""
    version.setbase(VERSION_BASE)
    setup_globals()
    schema.register()
    OmegaConf.register_new_resolver("run_id", _run_id, replace=True)


def without_hydra(composed: DictConfig) -> DictConfig:
    """A copy that holds the run's config alone."""
    bare = copy.deepcopy(composed)
    with read_write(bare), open_dict(bare):
        bare.pop("hydra", None)
    return bare


def _run_id(*, _root_: DictConfig) -> str:
    """`${run_id:}`: the folder that a run has, whatever it is started by."""
    return run_id(check(without_hydra(_root_)))


@dataclass(frozen=True)
class Chosen:
    """The config that a set of group choices gives, before a value is set by hand."""

    composed: DictConfig  # Hydra's own node included
    bare: DictConfig  # without it
    faults: tuple[Fault, ...]  # choices that had to be left out
    unsure: frozenset[str]  # groups that nothing can be said of without those


class Composer:
    """Turns overrides into a Config, or into everything that is wrong with them.

    Hydra stops at the first error, and takes a tenth of a second for each composition. So the choices
    (`model=tiny`) of a combination are composed once, and found out one by one only if together they fail;
    values (`model.depth=2`) are set on copies with Hydra's own function, in Hydra's own order.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        register()
        path = create_config_search_path(CONFIG_PATH)
        if config_dir is not None:
            folder = Path(config_dir).resolve()
            if not folder.is_dir():
                raise ConfigError([Fault("--config-dir", config_dir, "expected a folder that is there")])
            path.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
        self._loader = ConfigLoaderImpl(config_search_path=path)
        self._parser = OverridesParser.create(config_loader=self._loader)
        self._chosen: dict[tuple[str, ...], Chosen] = {}

    def parse(self, tokens: Sequence[str]) -> tuple[list[Override], list[Fault]]:
        """The overrides that can be read, and the faults of those that cannot."""
        found, wrong = [], []
        for token in tokens:
            try:
                found += self._parser.parse_overrides([token])
            except HydraException:
                wrong.append(faults.of_syntax(token))
        return found, wrong

    def compose(self, overrides: Sequence[Override]) -> tuple[Config | None, list[Fault]]:
        """The config of one run (None if there are faults) and every fault; no override is a sweep."""
        chosen = self.choose(overrides)
        config, wrong = copy.deepcopy(chosen.bare), []
        for override in overrides:
            if self._is_choice(override):
                continue
            fault = faults.of_key(override, chosen.bare)
            if fault is not None:
                wrong.append(fault)
                continue
            try:
                ConfigLoaderImpl._apply_overrides_to_config([override], config)
            except HydraException as error:
                wrong.append(faults.of_value(override, error, chosen.bare))
        checked, more = _judge(config)
        given = {override.key_or_group: faults.typed(override) for override in overrides}
        wrong += [dataclasses.replace(fault, given=given.get(fault.key, fault.given)) for fault in more]
        wrong = [fault for fault in wrong if fault.key.partition(".")[0] not in chosen.unsure]
        return checked, [*chosen.faults, *wrong]

    def choose(self, overrides: Sequence[Override]) -> Chosen:
        """What the group choices and Hydra settings among `overrides` give."""
        choices = [override for override in overrides if self._is_choice(override)]
        key = tuple(str(choice.input_line) for choice in choices)
        if key not in self._chosen:
            self._chosen[key] = self._choose(choices)
        return self._chosen[key]

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
        accepted, wrong, unsure = list(choices), [], set()
        try:
            composed = self._load(choices)
        except _REFUSALS:
            accepted = []
            for choice in choices:
                try:
                    self._load([*accepted, choice])
                    accepted.append(choice)
                except _REFUSALS as error:
                    group = choice.key_or_group
                    wrong.append(faults.of_choice(choice, error, self._options(group)))
                    unsure |= set(schema.SCHEMAS) if group == "experiment" else {group}
            composed = self._load(accepted)
        return Chosen(composed, without_hydra(composed), tuple(wrong), frozenset(unsure))

    def _load(self, choices: list[Override]) -> DictConfig:
        lines = [str(choice.input_line) for choice in choices]
        return self._loader.load_configuration(CONFIG_NAME, lines, RunMode.RUN)

    def _is_choice(self, override: Override) -> bool:
        group = override.key_or_group
        return override.is_hydra_override() or (
            self._loader.repository.group_exists(group) and not isinstance(override.value(), dict)
        )

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


def _judge(config: DictConfig) -> tuple[Config | None, list[Fault]]:
    """`attnbench.config.check`, with what OmegaConf alone can tell."""
    try:
        unset = sorted(OmegaConf.missing_keys(config))
        return (None, [faults.of_unset(key) for key in unset]) if unset else (check(config), [])
    except ConfigError as error:
        return None, error.faults
    except OmegaConfBaseException as error:
        return None, [faults.of_interpolation(error)]
