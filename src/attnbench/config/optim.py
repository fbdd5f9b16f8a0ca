"""Config of optimizer and learning-rate schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.fields import Fault, bounded_field, build_check
from attnbench.config.targets import find_target_fault


class Optimizer(Enum):
    """Class of torch.optim."""

    adam = "adam"
    adamw = "adamw"
    sgd = "sgd"


@dataclass
class OptimConfig:
    """Options of the optimizer; `lr` is the peak of the schedule."""

    name: Optimizer = Optimizer.adam
    lr: float = bounded_field(1e-3, greater_than=0)
    beta1: float = bounded_field(0.9, minimum=0, less_than=1)
    beta2: float = bounded_field(0.98, minimum=0, less_than=1)
    eps: float = bounded_field(1e-9, greater_than=0)
    momentum: float = bounded_field(0.0, minimum=0, less_than=1)  # sgd only
    weight_decay: float = bounded_field(0.0, minimum=0)
    gradient_clip_val: float | None = bounded_field(
        None, greater_than=0
    )  # largest global gradient norm; null: not clipped
    # The user's own optimizer, in place of `name`: called with (parameter groups, lr=...).
    target: str | None = field(default=None, metadata=build_check(find_target_fault))


class Schedule(Enum):
    """Shape of the learning rate over updates."""

    constant = "constant"
    inverse_sqrt = "inverse_sqrt"  # linear warm-up, then 1/sqrt(update): Vaswani et al. 2017, eq. 3
    cosine = "cosine"  # linear warm-up, then half a cosine to zero at the last update


@dataclass
class ScheduleConfig:
    """Learning-rate schedule, counted in updates."""

    name: Schedule = Schedule.constant
    warmup_steps: int = bounded_field(0, minimum=0)
    # The user's own schedule, in place of `name`: takes (update from 0, number of updates) and returns a factor of lr.
    target: str | None = field(default=None, metadata=build_check(find_target_fault))

    def find_faults(self) -> Iterator[Fault]:
        """Check that inverse_sqrt has a warmup."""
        if self.target is None and self.name is Schedule.inverse_sqrt and self.warmup_steps < 1:
            yield Fault("warmup_steps", f"{self.warmup_steps}", "expected at least 1 for inverse_sqrt")
