"""Throughput, step time, padding, memory and MFU of training."""

from __future__ import annotations

import resource
import sys
import time
from statistics import median
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch

from attnbench.metrics.peak import mfu, peak_flops
from attnbench.metrics.throughput import WARMUP_STEPS, ThroughputMeter

_GIB = 2.0**30


def peak_memory(device: torch.device) -> dict[str, float]:
    """The most memory used so far, in GiB: reserved on a GPU, resident in the process otherwise."""
    if device.type == "cuda":
        return {
            "peak_reserved_gib": torch.cuda.max_memory_reserved(device) / _GIB,
            "peak_allocated_gib": torch.cuda.max_memory_allocated(device) / _GIB,
        }
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"peak_rss_gib": rss / _GIB}


class HasCost(Protocol):
    """What a LightningModule says of its arithmetic."""

    def flops_per_unit(self) -> tuple[float, str]:
        """Floating-point operations of training on one unit, and how they were counted."""
        ...


class Forward:
    """How long forward passes take, one of every so many: what a rank does of a step before it waits for the others."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._ms: list[float] = []
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._began: float | torch.cuda.Event | None = None

    def start(self, step: int, device: torch.device) -> None:
        """A step begins; half-way between two that are logged, for those wait for other ranks in between."""
        measured = step % self.every == self.every // 2
        self._began = _mark(device) if measured else None

    def end(self, device: torch.device) -> None:
        """Its backward pass begins."""
        if isinstance(self._began, float):
            self._ms.append(1000 * (time.perf_counter() - self._began))
        elif self._began is not None:
            self._events.append((self._began, cast(torch.cuda.Event, _mark(device))))
        self._began = None

    def median_ms(self) -> float | None:
        """Of all that were measured; waits for the device."""
        if self._events:
            self._events[-1][1].synchronize()
        found = [*self._ms, *(start.elapsed_time(end) for start, end in self._events)]
        return median(found) if found else None


def _mark(device: torch.device) -> float | torch.cuda.Event:
    """Now; on a GPU, when it comes to this point of its work."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


class Performance(pl.Callback):
    """Measures training through what a batch says of itself: `unit`, `units` and `places`."""

    def __init__(self, window_steps: int = 10, warmup_steps: int = WARMUP_STEPS) -> None:
        self.window_steps = window_steps
        self.meter = ThroughputMeter(window_steps, warmup_steps)
        self.forward = Forward(window_steps)
        self.unit = "units"
        self.flops_per_unit: float | None = None
        self.flops_method: str | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn the device and what a unit costs."""
        self.flops_per_unit, self.flops_method = cast(HasCost, pl_module).flops_per_unit()
        if pl_module.device.type == "cuda":
            device = pl_module.device
            self.meter.synchronise = lambda: torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock, which validation or a checkpoint may have stopped."""
        self.meter.start_step()
        if trainer.world_size > 1:
            self.forward.start(trainer.global_step, pl_module.device)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """The forward pass is over."""
        if trainer.world_size > 1:
            self.forward.end(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        self.unit = batch.unit
        self.meter.end_step(batch.units, *batch.places)
        rate = self.meter.latest
        if rate is not None and trainer.global_step % self.window_steps == 0:
            pl_module.log(f"performance/{self.unit}_per_sec_per_device", rate, batch_size=1)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is not training."""
        self.meter.pause()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Neither is writing a checkpoint."""
        self.meter.pause()

    def summary(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What the record says of this session's training, with the unit in the keys."""
        self.meter.close_window()
        found = self.meter.summary()
        rate = found.pop("units_per_sec")
        result: dict[str, Any] = {
            f"{self.unit}_per_sec_per_device": rate,
            f"{self.unit}_per_sec_global": self._over_ranks(trainer, rate),
            **found,
            **peak_memory(pl_module.device),
            "warmup_steps": self.meter.warmup_steps,
            "devices": trainer.world_size,
            "threads": torch.get_num_threads(),
        }
        return result | self._spread(trainer) | self._utilisation(pl_module, rate)

    def _spread(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Each rank's forward pass, and the slowest one over the median: a straggler, for whom all others wait."""
        if trainer.world_size == 1:
            return {}
        told: list[float | None] = [None] * trainer.world_size
        torch.distributed.all_gather_object(told, self.forward.median_ms())
        found = [ms for ms in told if ms is not None]
        slowest = max(found) / median(found) if len(found) == len(told) else None
        return {"forward_ms_p50_by_rank": told, "slowest_rank": slowest}

    def _over_ranks(self, trainer: pl.Trainer, rate: float | int | None) -> float | None:
        if rate is None or trainer.world_size == 1:
            return rate
        total = trainer.strategy.reduce(torch.tensor(float(rate), device=trainer.strategy.root_device), reduce_op="sum")
        return float(total)

    def _utilisation(self, pl_module: pl.LightningModule, rate: float | int | None) -> dict[str, Any]:
        device = pl_module.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        peak = peak_flops(name, str(pl_module.trainer.precision))
        achieved = None if rate is None or self.flops_per_unit is None else rate * self.flops_per_unit
        return {
            "device": name,
            "flops_per_unit": self.flops_per_unit,
            "flops_method": self.flops_method,
            "mfu": None if achieved is None else mfu(achieved, peak),
        }
