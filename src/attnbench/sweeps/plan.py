"""Plan of a command: all runs are composed and checked before the first starts; all faults are reported."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override, RangeSweep
from hydra.types import RunMode
from omegaconf import DictConfig

from attnbench.config import Config, ConfigError, Fault
from attnbench.config.tracking import SweepConfig
from attnbench.data.checksums import find_missing_files
from attnbench.records.identity import compute_run_id, config_to_dict
from attnbench.records.record import SCHEMA_VERSION, Plan, PlannedRun, SkippedCombination
from attnbench.sweeps import override_errors, search_space
from attnbench.sweeps.compose import Composer, get_shared_composer
from attnbench.sweeps.grid import find_zip_faults, list_grid
from attnbench.sweeps.override_errors import MAX_RUNS, format_typed_value
from attnbench.sweeps.stages import find_baseline, is_staged, list_first_stage
from attnbench.sweeps.tuning import Setting, remove_seed, split_settings

_FOLDER_KEYS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
_TOO_MANY_RUNS = f"expected at most {MAX_RUNS}"  # largest number of runs; all are planned before the first one starts
_OF_SWEEPS = ("sweep.tune", "sweep.seeds", "sweep.zip", "sweep.skip_invalid")
_SET_BY_HYDRA = ("hydra.runtime", "hydra.overrides", "hydra.job.id", "hydra.job.num", "hydra.job.override_dirname")


def compose_run(overrides: Sequence[str]) -> Config:
    """Compose the config of one run.

    Raises:
        ConfigError: with all faults of the overrides.
    """
    composer = get_shared_composer()
    parsed, wrong = composer.parse(overrides)
    config, more = composer.compose(parsed)
    _raise_faults([*wrong, *more])
    assert config is not None
    return config


def build_plan(command: Sequence[str], *, is_multirun: bool, config_dir: str | None = None) -> Plan:
    """Build the plan of a command line.

    Values to sweep come from the command and from `hydra.sweeper.params` of a `sweep=<name>` file; the command has
    priority. Combinations with equal run ids are planned once.

    Args:
        command: overrides.
        is_multirun: expand sweeps in the overrides.
        config_dir: folder of the user's own config groups.

    Raises:
        ConfigError: with all faults of all combinations, each once.
    """
    composer = get_shared_composer(config_dir)
    overrides, wrong = composer.parse(command)
    overrides, misplaced = _separate_faults(overrides, is_multirun)
    wrong += [*misplaced, *_find_numbers_for_text(composer, overrides)]
    hydra = [override for override in overrides if override.is_hydra_override()]
    combinations, probes, misread = (
        _list_combinations(composer, overrides) if is_multirun else ([_list_typed_overrides(overrides)], [], [])
    )
    wrong += [*misread, *_find_file_setting_faults(composer.compose_choices(_select_fixed(overrides)).composed)]
    unused = _UnusedSettings(composer, overrides)
    sweep = composer.compose_sweep_options(overrides) if is_multirun else None
    skipped: list[SkippedCombination] = []
    if sweep is not None and sweep.skip_invalid:
        combinations, skipped = _separate_invalid(combinations, composer, hydra)
        wrong += [] if combinations or wrong else [Fault("sweep.skip_invalid", "true", "no combination can be built")]
    options = sweep if sweep is not None and is_staged(sweep) else None
    if sweep is not None:
        wrong += _find_sweeper_faults(sweep, composer.compose_choices(_select_fixed(overrides)).composed)
    if options is not None:
        settings = split_settings(combinations)
        wrong += _find_baseline_faults(settings, options, composer)
        combinations, probes, more = list_first_stage(settings, options)
        wrong += more
        if len(combinations) + len(probes) > MAX_RUNS:
            wrong.append(Fault("--multirun", "", f"{_TOO_MANY_RUNS} runs, not {len(combinations) + len(probes)}"))
            combinations, probes = [], []
    is_tuning = options is not None and options.tune.params is not None
    runs: dict[str, PlannedRun] = {}
    for number, lines in enumerate([*combinations, *probes]):
        parsed = [*hydra, *composer.parse(lines)[0]]
        config, found = composer.compose(parsed)
        wrong += [*found, *unused.find_faults(parsed)]
        if config is not None:
            wrong += find_missing_files(config.data)
        if config is not None and number < len(combinations):
            planned = PlannedRun(compute_run_id(config), lines, config_to_dict(config), is_tuning)
            runs.setdefault(planned.run_id, planned)
    wrong += _check_single_folder(runs.values())
    _raise_faults(wrong)
    planned = next(iter(runs.values()))
    name = planned.config["sweep"]["name"]
    return Plan(SCHEMA_VERSION, name, list(command), list(runs.values()), skipped=skipped)


def decide_multirun(command: Sequence[str], is_requested: bool, config_dir: str | None = None) -> bool:
    """Return True if a command is a sweep, by --multirun or by `hydra.mode` in an override or a file.

    Args:
        command: overrides.
        is_requested: True if --multirun was given.
        config_dir: folder of the user's own config groups.

    Raises:
        ConfigError: for --multirun together with hydra.mode=RUN.
    """
    composer = get_shared_composer(config_dir)
    overrides, _ = composer.parse(command)
    mode = composer.compose_choices(_select_fixed(overrides)).composed.hydra.mode
    if is_requested and mode is RunMode.RUN:
        raise ConfigError([Fault("hydra.mode", "RUN", "expected MULTIRUN or nothing beside --multirun")])
    return is_requested or mode is RunMode.MULTIRUN


def check_choices(command: Sequence[str], config_dir: str | None = None) -> None:
    """Check the overrides that are needed to show a config: their syntax, and the group choices.

    Args:
        command: overrides.
        config_dir: folder of the user's own config groups.

    Raises:
        ConfigError: with all their faults.
    """
    composer = get_shared_composer(config_dir)
    overrides, wrong = composer.parse(command)
    _raise_faults(
        [
            *wrong,
            *composer.compose_choices(_select_fixed(overrides)).faults,
            *_find_numbers_for_text(composer, overrides),
        ]
    )


def format_help(command: Sequence[str], config_dir: str | None = None) -> str:
    """Return the text of `--help` for the group choices of a command line.

    Args:
        command: overrides.
        config_dir: folder of the user's own config groups.

    Raises:
        ConfigError: for a choice that is not valid, or an override that cannot be parsed.
    """
    composer = get_shared_composer(config_dir)
    overrides, wrong = composer.parse(command)
    _raise_faults(wrong)
    return composer.format_help(overrides)


def get_sweep_folder(config: Mapping[str, Any]) -> Path:
    """Return the folder of the sweep that a config (as a dict) belongs to.

    Each run has a subfolder named by its run_id.
    """
    return Path(config["paths"]["output"], config["sweep"]["name"])


def get_run_folder(config: Config) -> Path:
    """Return the folder of one run: `hydra.run.dir` of config.yaml."""
    return Path(config.paths.output, config.sweep.name, compute_run_id(config))


def _raise_faults(found: Iterable[Fault]) -> None:
    once = list(dict.fromkeys(found))
    if once:
        raise ConfigError(once)


def _list_typed_overrides(overrides: Iterable[Override]) -> list[str]:
    """Return overrides as they were typed, without Hydra's own settings."""
    return [str(override.input_line) for override in overrides if not override.is_hydra_override()]


def _separate_faults(overrides: Iterable[Override], multirun: bool) -> tuple[list[Override], list[Fault]]:
    """Return the overrides that are allowed here, and the faults of the others."""
    kept, wrong = [], []
    for override in overrides:
        key, swept = override.key_or_group, override.is_sweep_override()
        given = format_typed_value(override)
        if key in _FOLDER_KEYS:
            wrong.append(
                Fault(
                    key,
                    given,
                    "the folder of a run is <paths.output>/<sweep.name>/<run_id>: set paths.output and sweep.name",
                )
            )
        elif key.startswith(_SET_BY_HYDRA):
            wrong.append(Fault(key, given, "set by Hydra itself: leave it out"))
        elif not multirun and key.startswith(_OF_SWEEPS):
            wrong.append(Fault(key, given, "only allowed in a sweep: add -m"))
        elif swept and override.is_hydra_override():
            wrong.append(Fault(key, given, "expected one value: Hydra's own settings are not swept"))
        elif swept and not multirun:
            wrong.append(Fault(key, given, "several values define a sweep: add -m, or write a list as [a,b]"))
        elif swept and override.is_discrete_sweep() and not 1 <= _count_values(override) <= MAX_RUNS:
            expected = "expected at least one value" if _count_values(override) < 1 else f"{_TOO_MANY_RUNS} values"
            wrong.append(Fault(key, given, expected))
        else:
            kept.append(override)
    return kept, wrong


def _count_values(override: Override) -> float:
    """Return the number of swept values without expanding a range; 0 for a range that cannot be counted."""
    value = override.value()
    if not isinstance(value, RangeSweep):
        return len(list(override.sweep_string_iterator()))
    start, stop, step = (float(end) if end is not None else math.nan for end in (value.start, value.stop, value.step))
    if not step or not all(math.isfinite(end) for end in (start, stop, step)):
        return 0
    return max(0, math.ceil((stop - start) / step))


def _list_combinations(
    composer: Composer, overrides: list[Override]
) -> tuple[list[list[str]], list[list[str]], list[Fault]]:
    """List the overrides of each job, as the sweeper passes them to the launcher.

    Returns:
        Overrides of each job; of further combinations to check (a search knows only its first runs, so its extremes
        are checked); and faults.
    """
    sweeper = composer.compose_choices(_select_fixed(overrides)).composed.hydra.sweeper
    chosen = sweeper.get("params") or {}
    listed, wrong = composer.parse([f"{key}={value}" for key, value in chosen.items()])
    listed, misplaced = _separate_faults(listed, multirun=True)
    wrong += misplaced
    own = [*listed, *(override for override in overrides if not override.is_hydra_override())]
    drawn = [override for override in own if override.is_interval_sweep()]
    searched = search_space.plan_search(sweeper, own)
    if searched is not None:
        first, probes, undrawable = searched
        return first, probes, [*wrong, *undrawable]
    expected = "expected values to list: a grid draws none from an interval (hydra/sweeper=random does)"
    wrong += [Fault(override.key_or_group, format_typed_value(override), expected) for override in drawn]
    gridded = [override for override in own if override not in drawn]
    last = {override.get_key_element(): override for override in gridded}.values()
    options = composer.compose_sweep_options(overrides)
    zipped = [] if options is None else options.zip
    if unzippable := list(find_zip_faults(gridded, zipped)):
        return [], [], [*wrong, *unzippable]
    later = {key for group in zipped for key in group[1:]}  # add no combinations
    swept = [one for one in last if one.is_sweep_override() and one.get_key_element() not in later]
    count = math.prod(map(_count_values, swept))
    if count > MAX_RUNS:
        return [], [], [*wrong, Fault("--multirun", "", f"{_TOO_MANY_RUNS} combinations, not {count}")]
    return list_grid(gridded, zipped), [], wrong


def list_settings(command: Sequence[str]) -> tuple[list[Setting], SweepConfig]:
    """List the settings of a sweep with their seeds, and the options of the sweep.

    Args:
        command: overrides that `build_plan` accepts.
    """
    composer = get_shared_composer()
    overrides, _ = composer.parse(command)
    options = composer.compose_sweep_options(overrides)
    assert options is not None, "the plan has been checked"
    combinations = _list_combinations(composer, overrides)[0]
    if options.skip_invalid:
        combinations, _ = _separate_invalid(combinations, composer, [])
    return split_settings(combinations), options


def _separate_invalid(
    combinations: Sequence[list[str]], composer: Composer, hydra: Sequence[Override]
) -> tuple[list[list[str]], list[SkippedCombination]]:
    """Separate the combinations that can be built from the others, which are listed once for all seeds."""
    valid: list[list[str]] = []
    skipped: dict[tuple[str, ...], SkippedCombination] = {}
    for lines in combinations:
        config, faults = composer.compose([*hydra, *composer.parse(lines)[0]])
        if config is None:
            own = remove_seed(lines)
            skipped[tuple(own)] = SkippedCombination(own, "; ".join(map(str, faults)))
        else:
            valid.append(lines)
    return valid, list(skipped.values())


def _find_sweeper_faults(options: SweepConfig, composed: DictConfig) -> Iterator[Fault]:
    """Yield the options that a sweeper does not support."""
    target = composed.hydra.sweeper.get("_target_")
    if is_staged(options) and target == search_space.OPTUNA:
        key = "sweep.seeds" if options.looks else "sweep.tune.params"
        yield Fault(key, "", "expected hydra/sweeper=grid or random: a study chooses its own runs")
    if options.zip and target in (search_space.OPTUNA, search_space.RANDOM):
        yield Fault("sweep.zip", "", "expected hydra/sweeper=grid: a search draws each key independently")


def _find_baseline_faults(settings: Sequence[Setting], options: SweepConfig, composer: Composer) -> list[Fault]:
    """Return the fault of a baseline that is not one of the settings; wrong settings are reported elsewhere."""

    def compose(lines: list[str]) -> Config:
        config, _ = composer.compose(composer.parse(lines)[0])
        if config is None:
            raise ConfigError([])
        return config

    try:
        if options.looks:
            find_baseline(settings, options, compose)
    except ConfigError as error:
        return error.faults
    return []


def _select_fixed(overrides: Iterable[Override]) -> list[Override]:
    return [override for override in overrides if not override.is_sweep_override()]


def _find_numbers_for_text(composer: Composer, overrides: Sequence[Override]) -> Iterator[Fault]:
    """Yield the overrides that Hydra reads as numbers where text is expected: 2024_01_01 would become 20240101."""
    config = composer.compose_choices(_select_fixed(overrides)).run_config
    for override in overrides:
        fault = None if override.is_hydra_override() else override_errors.find_text_fault(override, config)
        if fault is not None:
            yield fault


def _find_file_setting_faults(composed: DictConfig) -> Iterator[Fault]:
    """Yield the faults of Hydra settings that a user's file sets and that no override may set."""
    if composed.hydra.job.chdir:
        yield Fault("hydra.job.chdir", "true", "expected false: paths are relative to the folder of the command")


class _UnusedSettings:
    """Hydra settings in files that have no effect, because Hydra or config.yaml has set them before."""

    def __init__(self, composer: Composer, overrides: list[Override]) -> None:
        self._composer = composer
        self._master = composer.compose_choices(_select_fixed(overrides)).composed.hydra
        self._known: dict[int, list[Fault]] = {}  # cached by choices, because many runs of a sweep share them

    def find_faults(self, job: list[Override]) -> list[Fault]:
        """Return the faults of the files that one run chooses."""
        chosen = self._composer.compose_choices(job)
        if id(chosen) not in self._known:
            self._known[id(chosen)] = list(self._find_unused(chosen.composed.hydra))
        return self._known[id(chosen)]

    def _find_unused(self, hydra: DictConfig) -> Iterator[Fault]:
        brought = {key: "a swept choice" for key in ("launcher", "sweeper") if hydra[key] != self._master[key]}
        for group in ("experiment", "sweep"):
            file = f"{group}/{hydra.runtime.choices.get(group)}"
            brought |= {
                key: file for key in self._composer.find_overridden_groups(file) if key in ("launcher", "sweeper")
            }
        expected = "brings another one, which would not be used: give it on the command line"
        for key, who in brought.items():
            yield Fault(f"hydra/{key}", "", f"{who} {expected}")


def _check_single_folder(runs: Iterable[PlannedRun]) -> list[Fault]:
    """Return a fault if the runs belong to several sweep folders: one command has one plan and one table."""
    names = list(dict.fromkeys(str(get_sweep_folder(run.config)) for run in runs))
    if len(names) < 2:
        return []
    return [Fault("sweep.name", ", ".join(names), "expected one folder for the whole sweep: add sweep.name=<name>")]
