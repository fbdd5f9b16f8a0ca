"""Settings of a benchmark that takes a moment."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import pytest

from attnbench.benchmarks.results import Settings


class Asked(Protocol):
    """Makes settings; any of them may be said."""

    def __call__(self, **said: Any) -> Settings: ...


@pytest.fixture(scope="session")
def asked() -> Asked:
    """The smallest settings there are."""
    least = Settings(
        suites=["attention"], lengths=[4], batch=1, heads=2, width=4, max_gib=1.0, models=None, data=None, updates=2,
        sentences=3, only=None, seconds=0.0, test_sentences=4, checkpoint=None,
        warmup=0, repeats=1, dtype="float32", device="cpu", threads=1,
    )  # fmt: skip
    return lambda **said: dataclasses.replace(least, **said)
