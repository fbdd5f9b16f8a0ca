"""hydra/sweeper=random: draws instead of a grid, on the same plan, launchers and records."""

from __future__ import annotations

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override

from attnbench.sweep.search import RandomOptions, Space

ConfigStore.instance().store(group="hydra/sweeper", name="random", node=RandomOptions, provider="attnbench")


class RandomSweeper(BasicSweeper):
    """hydra/sweeper=random: what `attnbench.sweep.plan` has drawn and checked, drawn again."""

    def __init__(self, n_trials: int, seed: int, params: dict[str, str] | None) -> None:
        super().__init__(max_batch_size=None, params=params)
        self.n_trials, self.seed = n_trials, seed

    def split_arguments(  # type: ignore[override]  # it is a static method there, and called as one of an object
        self, overrides: list[Override], max_batch_size: int | None
    ) -> list[list[list[str]]]:
        """All draws, in one batch."""
        space = Space(overrides)
        return [[space.lines(values) for values in space.draws(self.n_trials, self.seed)]]
