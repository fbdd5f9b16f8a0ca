"""Small runs of each task on the data the project makes: seconds on one core."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Protocol

import pytest

from attnbench.config import Config
from attnbench.sweeps.compose import Composer

_ANY = [
    "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2", "trainer.accelerator=cpu", "trainer.num_threads=1",
    "logger=none", "callbacks=quiet",
]  # fmt: skip
_BLOCKS = ["model.depth=1", "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "model.dropout=0.2"]
_PAIRS = [
    "data.train_pairs=96", "data.val_pairs=12", "data.test_pairs=12", "data.batch_tokens=256", "data.clauses=1",
    "task.beam_size=2", "task.max_extra=4",
]  # fmt: skip
# Each task; and translation by a recurrent model, which has other keys.
SMALL = {
    "translation": [*_ANY, *_BLOCKS, *_PAIRS],
    "classification": [
        *_ANY, *_BLOCKS, "experiment=vit_synthetic_garments", "data.train_images=96", "data.val_images=20",
        "data.test_images=20", "data.batch_size=30", "data.crop_padding=2", "data.horizontal_flip=true",
        "task.eval_batch_size=9",
    ],
    "recurrent": [
        *_ANY, *_PAIRS, "model=luong", "model.depth=1", "model.d_embedding=16", "model.d_hidden=16",
        "model.dropout=0.2", "model.teacher_forcing=0.8",
    ],
}  # fmt: skip


@cache
def composer() -> Composer:
    """One for all tests: it remembers what each set of choices gave, which takes a fifth of a second to find out."""
    return Composer()


def compose(*overrides: str) -> Config:
    """`sweep.plan.compose`, with what was composed before remembered."""
    parsed, faults = composer().parse(overrides)
    config, more = composer().compose(parsed)
    assert config is not None, [*faults, *more]
    return config


class Small(Protocol):
    """Composes a config of a run that takes a second."""

    def __call__(self, *overrides: str, task: str = "translation") -> Config: ...


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A config of a run that takes a second; more overrides may follow."""

    def composed(*overrides: str, task: str = "translation") -> Config:
        given = [*SMALL[task], f"paths.cache={tmp_path}/cache", *overrides]
        # What a test says of a key stands in place of what is said above.
        return compose(*{override.partition("=")[0]: override for override in given}.values())

    return composed
