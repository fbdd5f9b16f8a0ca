"""Optimizer, learning-rate schedule and weight averaging."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from attnbench.config import ConfigError, Fault
from attnbench.config.optim import OptimConfig, Optimizer, Schedule, ScheduleConfig
from attnbench.config.targets import import_target


def compute_lr_factor(step: int, schedule: ScheduleConfig, total_steps: int | None) -> float:
    """Compute the learning rate of an update as a fraction of its peak.

    Warmup is linear and reaches the peak at update `warmup_steps`. Then inverse_sqrt falls as 1/sqrt(update) (Vaswani
    et al. 2017, equation 3), and cosine falls to zero at `total_steps` (Loshchilov & Hutter 2017, equation 5).

    Args:
        step: number of the update, from 0.
        schedule: the schedule.
        total_steps: number of updates; only cosine needs it.
    """
    if schedule.target is not None:
        return float(import_target(schedule.target, "schedule.target")(step, total_steps))
    update, warmup = step + 1, schedule.warmup_steps
    if update < warmup:
        return update / warmup
    if schedule.name is Schedule.inverse_sqrt:
        return math.sqrt(warmup / update)
    if schedule.name is Schedule.cosine:
        if total_steps is None:
            raise ValueError("schedule=cosine needs trainer.max_steps: it ends at the last update")
        progress = min(1.0, (update - warmup) / max(1, total_steps - warmup))
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0


def build_optimizer(
    parameters: Iterable[torch.nn.Parameter], optim: OptimConfig, *, is_fused: bool
) -> torch.optim.Optimizer:
    """Build the optimizer. Weight decay applies to matrices, not to biases and norms.

    Args:
        parameters: parameters of the network.
        optim: options.
        is_fused: whether one kernel updates all parameters; not used for `optim.target`.

    Raises:
        ConfigError: `optim.target` cannot be imported, or does not give an optimizer.
    """
    matrices: list[torch.nn.Parameter] = []
    vectors: list[torch.nn.Parameter] = []
    for parameter in parameters:
        if parameter.requires_grad:
            (matrices if parameter.dim() > 1 else vectors).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": optim.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if optim.target is not None:
        found = import_target(optim.target, "optim.target")(groups, lr=optim.lr)
        if not isinstance(found, torch.optim.Optimizer):
            expected = "expected a torch.optim.Optimizer, or a function that returns one"
            raise ConfigError([Fault("optim.target", optim.target, expected)])
        return found
    if optim.name is Optimizer.sgd:
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, fused=is_fused)
    kind = torch.optim.Adam if optim.name is Optimizer.adam else torch.optim.AdamW
    return kind(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=is_fused)


def average_state_dicts(states: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Compute the mean of state dicts in float64; tensors that are not floating point come from the last one.

    Vaswani et al. 2017, section 6.1, average the last 5 checkpoints of the base model and the last 20 of the big one.
    """
    if not states:
        raise ValueError("no checkpoints to average")
    mean = dict(states[-1])
    for name, last in states[-1].items():
        if last.is_floating_point():
            mean[name] = torch.stack([state[name].double() for state in states]).mean(0).to(last.dtype)
    return mean
