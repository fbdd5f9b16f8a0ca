"""Hydra sweepers grid, random and optuna, with attnbench's plan, launchers and records."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from attnbench.config import Config, ConfigError
from attnbench.sweeps.compose import get_composer
from attnbench.sweeps.grid import list_grid
from attnbench.sweeps.optuna_search import OptunaSearch, build_study_name
from attnbench.sweeps.optuna_study import OptunaOptions
from attnbench.sweeps.search_space import GridOptions, RandomOptions, SearchSpace
from attnbench.sweeps.stages import StagedSweep, is_staged
from attnbench.sweeps.tuning import split_settings

_STORE = ConfigStore.instance()
_STORE.store(group="hydra/sweeper", name="grid", node=GridOptions, provider="attnbench")
_STORE.store(group="hydra/sweeper", name="random", node=RandomOptions, provider="attnbench")
_STORE.store(group="hydra/sweeper", name="optuna", node=OptunaOptions, provider="attnbench")


class GridSweeper(BasicSweeper):
    """Sweeper over all combinations (hydra/sweeper=grid), like Hydra's `basic`; some sweeps run in stages."""

    def sweep(self, arguments: list[str]) -> None:
        """Run all combinations or, with `sweep.tune` or `sweep.seeds`, stage by stage."""
        assert self.config is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        options = get_composer(self.config).compose_sweep_options(overrides)
        assert options is not None, "the plan has been checked"
        self._options = options
        if not is_staged(options):
            super().sweep(arguments)
            return
        combinations = self.split_arguments(overrides, None)[0]
        launcher: Any = self.launcher
        settings = split_settings(combinations)
        launcher.shared = frozenset.intersection(*map(frozenset, combinations))
        StagedSweep(
            Path(self.config.hydra.sweep.dir), settings, options, compose=self._compose_run, launch=launcher.launch
        ).run()

    def split_arguments(  # type: ignore[override]  # it is a static method there, and called as one of an object
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return the overrides of all runs, in batches."""
        runs = list_grid(overrides, self._options.zip)
        if self._options.skip_invalid:
            runs = [lines for lines in runs if self._is_valid(lines)]
        size = max_batch_size or max(1, len(runs))
        return [runs[start : start + size] for start in range(0, len(runs), size)]

    def _is_valid(self, overrides: list[str]) -> bool:
        try:
            self._compose_run(overrides)
        except ConfigError:
            return False
        return True

    def _compose_run(self, overrides: list[str]) -> Config:
        assert self.config is not None
        return get_composer(self.config).compose_job(self.config, overrides, 0)[0]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Do nothing: `attnbench.sweeps.plan` has composed and checked each job; Hydra would compose each again."""


class RandomSweeper(GridSweeper):
    """Sweeper over random draws, the ones that `attnbench.sweeps.plan` has checked (hydra/sweeper=random)."""

    def __init__(self, n_trials: int, seed: int, params: dict[str, str] | None) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.n_trials, self.seed = n_trials, seed

    def split_arguments(  # type: ignore[override]
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """Return all draws in one batch."""
        space = SearchSpace(overrides)
        return [[space.build_overrides(values) for values in space.draw_values(self.n_trials, self.seed)]]


class OptunaSweeper(GridSweeper):
    """Sweeper over the trials of an Optuna study (hydra/sweeper=optuna)."""

    def __init__(self, **options: Any) -> None:
        self.options = OptunaOptions(**options)
        super().__init__(max_batch_size=None, params=self.options.params)

    def sweep(self, arguments: list[str]) -> None:
        """Run the search with the launcher that Hydra has chosen."""
        assert self.config is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        space = SearchSpace(parser.parse_overrides([*self._parse_config(), *arguments]))
        folder = Path(self.config.hydra.sweep.dir)
        launcher: Any = self.launcher
        launcher.total = self.options.n_trials
        launcher.shared = frozenset([*space.fixed_overrides, f"sweep.study={build_study_name(space, self.options)}"])
        at_once = self.options.batch or self.config.sweep.workers
        try:
            OptunaSearch(
                folder, space, self.options, max_parallel=at_once, compose=self._compose_run, launch=launcher.launch
            ).run()
        except ConfigError as error:
            for fault in error.faults:
                print(f"attnbench: {fault}", file=sys.stderr, flush=True)
            raise SystemExit(2) from error
