"""Loss curves that refactors must not move."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnbench.tasks.build import TASKS
from attnbench.tasks.run import execute

from .conftest import Small

# Losses of the first updates; across CPUs and torch versions they agree to a few parts in ten thousand.
GOLDEN = {
    "translation": [
        6.19396, 6.02166, 6.06997, 5.94844, 5.63402, 5.77560, 5.39161, 5.42504,
        5.18733, 5.22101, 5.08232, 5.21736, 4.94544, 4.98315, 4.94936, 4.75736,
    ],
    "classification": [
        3.05459, 2.71607, 2.63755, 2.60053, 2.25340, 2.60952, 2.47362, 2.52807,
        2.38110, 2.31857, 2.26522, 2.20393, 2.27912, 2.30203, 2.25961, 2.23064,
    ],
}  # fmt: skip


@pytest.mark.parametrize("task", GOLDEN)
def test_the_first_losses_are_what_they_were(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    losses: list[float] = []
    config = small("optim.lr=0.01", "schedule.warmup_steps=5", task=task)
    task_type = TASKS[type(config.task)][0]
    original = task_type.training_step

    def recording(self: object, *args: object) -> torch.Tensor:
        loss = original(self, *args)  # type: ignore[arg-type]
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(task_type, "training_step", recording)
    execute(config, tmp_path, [])
    assert losses == pytest.approx(GOLDEN[task], rel=2e-3)
