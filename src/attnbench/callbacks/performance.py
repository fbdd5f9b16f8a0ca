"""Throughput, step time, padding, memory and MFU of training."""

from __future__ import annotations

import resource
import sys
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch

from attnbench.metrics.peak import mfu, peak_flops
from attnbench.metrics.throughput import ThroughputMeter

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


class Performance(pl.Callback):
    """Measures training through what a batch says of itself: `unit`, `units` and `places`."""

    def __init__(self, window_steps: int = 10, warmup_steps: int = 10) -> None:
        self.window_steps = window_steps
        self.meter = ThroughputMeter(window_steps, warmup_steps)
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
        return result | self._utilisation(pl_module, rate)

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
