"""A loss curve that refactors must not move."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attnbench.config import Config
from attnbench.tasks.run import execute
from attnbench.tasks.translation import Translation

# Losses of the first updates; across CPUs and torch versions they agree to a few parts in ten thousand.
GOLDEN = [
    6.19396, 6.02166, 6.06997, 5.94844, 5.63402, 5.77560, 5.39161, 5.42504,
    5.18733, 5.22101, 5.08232, 5.21736, 4.94544, 4.98315, 4.94936, 4.75736,
]  # fmt: skip


def test_the_first_losses_are_what_they_were(
    small: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    original = Translation.training_step

    def recording(self: Translation, *args: object) -> torch.Tensor:
        loss = original(self, *args)  # type: ignore[arg-type]
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(Translation, "training_step", recording)
    execute(small("optim.lr=0.01", "schedule.warmup_steps=5"), tmp_path, [])
    assert losses == pytest.approx(GOLDEN, rel=2e-3)
