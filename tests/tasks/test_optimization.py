from __future__ import annotations

import math

import pytest
import torch

from attnbench.config.optim import OptimConfig, Optimizer, Schedule, ScheduleConfig
from attnbench.tasks.optimization import average_state_dicts, build_optimizer, compute_lr_factor


def test_inverse_sqrt_is_equation_3_of_vaswani_2017() -> None:
    d_model, warmup = 512, 4000
    peak = d_model**-0.5 * warmup**-0.5
    schedule = ScheduleConfig(Schedule.inverse_sqrt, warmup)
    for update in (1, 10, 3999, 4000, 4001, 100_000):
        published = d_model**-0.5 * min(update**-0.5, update * warmup**-1.5)
        assert peak * compute_lr_factor(update - 1, schedule, None) == pytest.approx(published)


def test_cosine_ends_at_zero_and_peaks_after_warm_up() -> None:
    schedule = ScheduleConfig(Schedule.cosine, 10)
    factors = [compute_lr_factor(step, schedule, 100) for step in range(100)]
    assert max(factors) == factors[9] == 1.0
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
    assert factors[54] == pytest.approx(0.5)


def test_cosine_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trainer\.max_steps"):
        compute_lr_factor(3, ScheduleConfig(Schedule.cosine, 0), None)


def test_constant_warms_up_and_stays() -> None:
    schedule = ScheduleConfig(Schedule.constant, 4)
    assert [compute_lr_factor(s, schedule, None) for s in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", Optimizer)
def test_every_optimizer_minimises_and_spares_vectors_from_decay(name: Optimizer) -> None:
    matrix = torch.nn.Parameter(torch.full((2, 2), 3.0))
    vector = torch.nn.Parameter(torch.full((2,), 3.0))
    optimizer = build_optimizer([matrix, vector], OptimConfig(name=name, lr=0.1, weight_decay=0.5), is_fused=True)
    for _ in range(200):
        optimizer.zero_grad()
        (0.5 * matrix.pow(2).sum() + 0.5 * vector.pow(2).sum()).backward()
        optimizer.step()
    assert matrix.abs().max() < 0.5
    assert vector.abs().max() < 0.5
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5, 0.0]


def test_average_is_the_mean_of_weights_and_the_last_of_counters() -> None:
    states = [{"w": torch.full((2,), float(i)), "n": torch.tensor(i)} for i in range(4)]
    mean = average_state_dicts(states)
    assert torch.equal(mean["w"], torch.full((2,), 1.5))
    assert mean["n"].item() == 3
    assert math.isclose(states[0]["w"][0].item(), 0.0)


def test_average_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no checkpoints"):
        average_state_dicts([])
