"""Loss curves that refactors must not move."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnbench.tasks.build import TASKS
from attnbench.training.runner import run_training

from .conftest import Small

# Losses of the first updates; across CPUs and torch versions they agree to a few parts in ten thousand.
GOLDEN = {
    "translation": [
        6.19396, 6.02166, 6.06997, 5.94844, 5.63402, 5.77560, 5.39161, 5.42504,
        5.18733, 5.22101, 5.08232, 5.21736, 4.94544, 4.98315, 4.94936, 4.75736,
    ],
    "classification": [
        2.50935, 2.52889, 2.84641, 2.79425, 2.28909, 2.62790, 2.32621, 2.42003,
        2.10165, 2.23462, 2.30534, 2.37753, 2.36450, 2.49090, 2.38633, 2.09470,
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
    run_training(config, tmp_path, [])
    assert losses == pytest.approx(GOLDEN[task], rel=2e-3)
