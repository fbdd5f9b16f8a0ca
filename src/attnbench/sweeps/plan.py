"""Every run of a command, composed and checked before any begins; all that is wrong is refused at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.types import RunMode
from omegaconf import DictConfig

from attnbench.config import Config, ConfigError, Fault
from attnbench.data.checksums import find_missing_files
from attnbench.records.identity import compute_run_id, config_to_dict
from attnbench.records.record import SCHEMA_VERSION, Plan, PlannedRun
from attnbench.sweeps import override_errors, search_space
from attnbench.sweeps.compose import Composer, shared_composer
from attnbench.sweeps.override_errors import MOST_RUNS, typed

_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
_TOO_MANY = f"expected at most {MOST_RUNS}"  # all are planned and checked before the first run
_SET_BY_HYDRA = ("hydra.runtime", "hydra.overrides", "hydra.job.id", "hydra.job.num", "hydra.job.override_dirname")


def compose(overrides: Sequence[str]) -> Config:
    """The config of one run.

    Raises:
        ConfigError: with every fault of the overrides.
    """
    composer = shared_composer()
    parsed, wrong = composer.parse(overrides)
    config, more = composer.compose(parsed)
    _refuse([*wrong, *more])
    assert config is not None
    return config


def expand(command: Sequence[str], *, multirun: bool, config_dir: str | None = None) -> Plan:
    """The plan of a command line: its overrides, with the sweeps in them expanded if it is a multirun.

    Values to sweep come from the command and from `hydra.sweeper.params` of a `sweep=<name>` file; the
    command wins. Two combinations that come to the same run are planned once.

    Raises:
        ConfigError: with every fault of every combination, each once.
    """
    composer = shared_composer(config_dir)
    overrides, wrong = composer.parse(command)
    overrides, misplaced = _sort_out(overrides, multirun)
    wrong += [*misplaced, *_numbers_for_text(composer, overrides)]
    hydra = [override for override in overrides if override.is_hydra_override()]
    combinations, probes, misread = _combinations(composer, overrides) if multirun else ([_lines(overrides)], [], [])
    wrong += [*misread, *_settings_of_files(composer.choose(_fixed(overrides)).composed)]
    unused = _Unused(composer, overrides)
    runs: dict[str, PlannedRun] = {}
    for number, lines in enumerate([*combinations, *probes]):
        parsed = [*hydra, *composer.parse(lines)[0]]
        config, found = composer.compose(parsed)
        wrong += [*found, *unused.faults(parsed)]
        if config is not None:
            wrong += find_missing_files(config.data)
        if config is not None and number < len(combinations):
            planned = PlannedRun(compute_run_id(config), lines, config_to_dict(config))
            runs.setdefault(planned.run_id, planned)
    wrong += _folders(runs.values())
    _refuse(wrong)
    planned = next(iter(runs.values()))
    return Plan(SCHEMA_VERSION, planned.config["sweep"]["name"], list(command), list(runs.values()))


def is_multirun(command: Sequence[str], is_asked: bool, config_dir: str | None = None) -> bool:
    """Decide whether a command is a sweep: by --multirun, or by `hydra.mode` of an override or a file.

    Args:
        command: overrides.
        is_asked: whether --multirun was given.
        config_dir: a folder of the user's own groups.

    Raises:
        ConfigError: --multirun beside hydra.mode=RUN.
    """
    composer = shared_composer(config_dir)
    overrides, _ = composer.parse(command)
    mode = composer.choose(_fixed(overrides)).composed.hydra.mode
    if is_asked and mode is RunMode.RUN:
        raise ConfigError([Fault("hydra.mode", "RUN", "expected MULTIRUN or nothing beside --multirun")])
    return is_asked or mode is RunMode.MULTIRUN


def check_choices(command: Sequence[str], config_dir: str | None = None) -> None:
    """Check what a config cannot be shown without: overrides that can be read, and choices that can be made.

    Raises:
        ConfigError: with every fault of those.
    """
    composer = shared_composer(config_dir)
    overrides, wrong = composer.parse(command)
    _refuse([*wrong, *composer.choose(_fixed(overrides)).faults, *_numbers_for_text(composer, overrides)])


def help_text(command: Sequence[str], config_dir: str | None = None) -> str:
    """What `--help` says, with what the choices of a command line choose.

    Raises:
        ConfigError: a choice that cannot be made, or an override that cannot be read.
    """
    composer = shared_composer(config_dir)
    overrides, wrong = composer.parse(command)
    _refuse(wrong)
    return composer.help(overrides)


def sweep_folder(config: Mapping[str, Any]) -> Path:
    """Where the runs of a resolved config's sweep lie, each in a folder that its run_id names."""
    return Path(config["paths"]["output"], config["sweep"]["name"])


def run_folder(config: Config) -> Path:
    """Return the folder of one run, `hydra.run.dir` of config.yaml."""
    return Path(config.paths.output, config.sweep.name, compute_run_id(config))


def _refuse(found: Iterable[Fault]) -> None:
    once = list(dict.fromkeys(found))
    if once:
        raise ConfigError(once)


def _lines(overrides: Iterable[Override]) -> list[str]:
    """As they were typed, without Hydra's own."""
    return [str(override.input_line) for override in overrides if not override.is_hydra_override()]


def _sort_out(overrides: Iterable[Override], multirun: bool) -> tuple[list[Override], list[Fault]]:
    """The overrides that stand where they may, and the faults of the others."""
    kept, wrong = [], []
    for override in overrides:
        key, swept = override.key_or_group, override.is_sweep_override()
        given = typed(override)
        if key in _FOLDERS:
            wrong.append(Fault(key, given, "a run lies in <paths.output>/<sweep.name>/<run_id>: set those"))
        elif key.startswith(_SET_BY_HYDRA):
            wrong.append(Fault(key, given, "set by Hydra itself: leave it out"))
        elif swept and override.is_hydra_override():
            wrong.append(Fault(key, given, "expected one value: Hydra's own settings are not swept"))
        elif swept and not multirun:
            wrong.append(Fault(key, given, "several values are a sweep: add -m, or write a list as [a,b]"))
        elif swept and override.is_discrete_sweep() and not 1 <= _count_values(override) <= MOST_RUNS:
            expected = "expected at least one value" if _count_values(override) < 1 else f"{_TOO_MANY} values"
            wrong.append(Fault(key, given, expected))
        else:
            kept.append(override)
    return kept, wrong


def _count_values(override: Override) -> float:
    """Return how many values are swept, without listing a range; 0 for a range that cannot be counted."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return len(list(override.sweep_string_iterator()))
    start, stop, step = (float(end) if end is not None else math.nan for end in (value.start, value.stop, value.step))
    if not step or not all(math.isfinite(end) for end in (start, stop, step)):
        return 0
    return max(0, math.ceil((stop - start) / step))


def _combinations(
    composer: Composer, overrides: list[Override]
) -> tuple[list[list[str]], list[list[str]], list[Fault]]:
    """Each job's overrides, exactly as the sweeper will hand them to the launcher; others to check; what is wrong.

    A search that learns from what it has run knows only its first runs; whether it may go to its ends is checked.
    """
    sweeper = composer.choose(_fixed(overrides)).composed.hydra.sweeper
    chosen = sweeper.get("params") or {}
    listed, wrong = composer.parse([f"{key}={value}" for key, value in chosen.items()])
    listed, misplaced = _sort_out(listed, multirun=True)
    wrong += misplaced
    own = [*listed, *(override for override in overrides if not override.is_hydra_override())]
    drawn = [override for override in own if override.is_interval_sweep()]
    searched = search_space.of(sweeper, own)
    if searched is not None:
        first, probes, undrawable = searched
        return first, probes, [*wrong, *undrawable]
    expected = "expected values to list: a grid draws none from an interval (hydra/sweeper=random does)"
    wrong += [Fault(override.key_or_group, typed(override), expected) for override in drawn]
    gridded = [override for override in own if override not in drawn]
    last = {override.get_key_element(): override for override in gridded}.values()
    count = math.prod(_count_values(one) for one in last if one.is_sweep_override())
    if count > MOST_RUNS:
        return [], [], [*wrong, Fault("--multirun", "", f"{_TOO_MANY} combinations, not {count}")]
    return BasicSweeper.split_arguments(gridded, None)[0], [], wrong


def _fixed(overrides: Iterable[Override]) -> list[Override]:
    return [override for override in overrides if not override.is_sweep_override()]


def _numbers_for_text(composer: Composer, overrides: Sequence[Override]) -> Iterator[Fault]:
    """Yield the overrides that Hydra reads as numbers where text is wanted: 2024_01_01 would become 20240101."""
    config = composer.choose(_fixed(overrides)).bare
    for override in overrides:
        fault = None if override.is_hydra_override() else override_errors.of_text(override, config)
        if fault is not None:
            yield fault


def _settings_of_files(composed: DictConfig) -> Iterator[Fault]:
    """Yield settings of Hydra's own that a user's file sets as no override may; config.yaml itself sets the folders."""
    if composed.hydra.job.chdir:
        yield Fault("hydra.job.chdir", "true", "expected false: paths are relative to the folder of the command")


class _Unused:
    """Settings of Hydra's own that a file brings along, and that Hydra or config.yaml has decided before."""

    def __init__(self, composer: Composer, overrides: list[Override]) -> None:
        self._composer = composer
        self._master = composer.choose(_fixed(overrides)).composed.hydra
        self._known: dict[int, list[Fault]] = {}  # by what is chosen: many runs of a sweep choose the same

    def faults(self, job: list[Override]) -> list[Fault]:
        """Return what the choices of one run bring along in vain."""
        chosen = self._composer.choose(job)
        if id(chosen) not in self._known:
            self._known[id(chosen)] = list(self._find(chosen.composed.hydra))
        return self._known[id(chosen)]

    def _find(self, hydra: DictConfig) -> Iterator[Fault]:
        brought = {key: "a swept choice" for key in ("launcher", "sweeper") if hydra[key] != self._master[key]}
        for group in ("experiment", "sweep"):
            file = f"{group}/{hydra.runtime.choices.get(group)}"
            brought |= {key: file for key in self._composer.overridden(file) if key in ("launcher", "sweeper")}
        expected = "brings another one, which would not be used: give it on the command line"
        for key, who in brought.items():
            yield Fault(f"hydra/{key}", "", f"{who} {expected}")


def _folders(runs: Iterable[PlannedRun]) -> list[Fault]:
    """One command has one folder, because it has one plan and one table."""
    names = list(dict.fromkeys(str(sweep_folder(run.config)) for run in runs))
    if len(names) < 2:
        return []
    return [Fault("sweep.name", ", ".join(names), "expected one folder for the whole sweep: add sweep.name=<name>")]
