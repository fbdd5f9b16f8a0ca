"""Small runs of each task on the data the project makes: seconds on one core."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from attnbench.config import Config
from attnbench.sweep.compose import Composer

_ANY = [
    "model.depth=1", "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.dropout=0.2",
    "trainer.max_epochs=4", "trainer.validate_every_epochs=2", "trainer.accelerator=cpu", "trainer.threads=1",
    "logger=none", "callbacks=quiet",
]  # fmt: skip
SMALL = {
    "translation": [
        *_ANY, "data.train_pairs=96", "data.val_pairs=12", "data.test_pairs=12", "data.batch_tokens=256",
        "data.clauses=1", "task.beam_size=2", "task.max_extra=4",
    ],
    "classification": [
        *_ANY, "experiment=vit_synthetic_garments", "data.train_images=96", "data.val_images=20",
        "data.test_images=20", "data.batch_size=30", "data.crop_padding=2", "data.flip=true", "task.eval_batch=9",
    ],
}  # fmt: skip


class Small(Protocol):
    """Composes a config of a run that takes a second."""

    def __call__(self, *overrides: str, task: str = "translation") -> Config: ...


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A config of a run that takes a second; more overrides may follow."""

    def compose(*overrides: str, task: str = "translation") -> Config:
        composer = Composer()
        parsed, faults = composer.parse([*SMALL[task], f"paths.cache={tmp_path}/cache", *overrides])
        config, more = composer.compose(parsed)
        assert config is not None, [*faults, *more]
        return config

    return compose
