"""Small runs on the synthetic language: seconds on one core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.config import Config
from attnbench.sweep.compose import Composer

SMALL = [
    "data.train_pairs=96", "data.val_pairs=12", "data.test_pairs=12", "data.batch_tokens=256", "data.clauses=1",
    "model.depth=1", "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.dropout=0.2",
    "trainer.max_epochs=4", "trainer.validate_every_epochs=2", "trainer.accelerator=cpu", "trainer.threads=1",
    "logger=none", "callbacks=quiet", "task.beam_size=2", "task.max_extra=4",
]  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Config]:
    """A config of a run that takes a second; more overrides may follow."""

    def compose(*overrides: str) -> Config:
        composer = Composer()
        parsed, faults = composer.parse([*SMALL, f"paths.cache={tmp_path}/cache", *overrides])
        config, more = composer.compose(parsed)
        assert config is not None, [*faults, *more]
        return config

    return compose
