"""Makes the fakes importable, here and in the processes that are started from here."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def fakes() -> ModuleType:
    import sweep_fakes

    return sweep_fakes
