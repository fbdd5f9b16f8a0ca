"""Throughput, step time, padding, memory and model FLOPs utilization (MFU) of training."""

from __future__ import annotations

import resource
import sys
import time
from statistics import median
from typing import Any, Protocol, cast

import pytorch_lightning as pl
import torch

from attnbench.metrics.mfu import compute_mfu, get_peak_flops
from attnbench.metrics.throughput import WARMUP_STEPS, ThroughputMeter

_GIB = 2.0**30


def get_peak_memory(device: torch.device) -> dict[str, float]:
    """Return the peak memory so far in GiB: reserved memory on a GPU, else the resident size of the process."""
    if device.type == "cuda":
        return {
            "peak_reserved_gib": torch.cuda.max_memory_reserved(device) / _GIB,
            "peak_allocated_gib": torch.cuda.max_memory_allocated(device) / _GIB,
        }
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"peak_rss_gib": rss / _GIB}


class HasFlopsPerUnit(Protocol):
    """Interface of LightningModules with a unit of throughput and a FLOP count."""

    unit_name: str

    def estimate_flops_per_unit(self) -> tuple[float | None, str]:
        """Return the training FLOPs per unit (None: unknown), and how they were counted."""
        ...


class ForwardTimer:
    """Measures forward passes of one of every `every` updates: the work of a rank before it waits for others.

    If an update is divided, the times of its micro-batches are added.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._ms: list[list[float]] = []  # times of the batches of each measured update
        self._events: list[list[tuple[torch.cuda.Event, torch.cuda.Event]]] = []
        self._step: int | None = None  # the update that was measured last
        self._began: float | torch.cuda.Event | None = None

    def start(self, step: int, device: torch.device) -> None:
        """Start a batch of update `step`.

        The measured update is half-way between two logged ones, because those wait for other ranks.
        """
        measured = step % self.every == self.every // 2
        if measured and step != self._step:
            self._step = step
            self._ms.append([])
            self._events.append([])
        self._began = _record_time(device) if measured else None

    def end(self, device: torch.device) -> None:
        """End the forward pass."""
        if isinstance(self._began, float):
            self._ms[-1].append(1000 * (time.perf_counter() - self._began))
        elif self._began is not None:
            self._events[-1].append((self._began, cast(torch.cuda.Event, _record_time(device))))
        self._began = None

    def median_ms(self) -> float | None:
        """Return the median over the updates that were measured; waits for the device."""
        events = [pair for update in self._events for pair in update]
        if events:
            events[-1][1].synchronize()
        found = [
            sum(ms) + sum(start.elapsed_time(end) for start, end in pairs)
            for ms, pairs in zip(self._ms, self._events, strict=True)
            if ms or pairs
        ]
        return median(found) if found else None


def _record_time(device: torch.device) -> float | torch.cuda.Event:
    """Return the current time; on a GPU, an event at this point of its work."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


class Performance(pl.Callback):
    """Measures training with the counts of each batch: `num_units` and `token_counts`."""

    def __init__(self, window_steps: int = 10, warmup_steps: int = WARMUP_STEPS) -> None:
        self.window_steps = window_steps
        self.meter = ThroughputMeter(window_steps, warmup_steps)
        self.forward = ForwardTimer(window_steps)
        self.unit_name = "units"
        self.flops_per_unit: float | None = None
        self.flops_method: str | None = None
        self.notes: list[str] = []  # notes for the record
        self._update = 0  # last counted update
        self._sums = [0.0] * 3  # units and positions of the batches since then

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Store unit and FLOPs; a resumed session may have no update that would tell the unit."""
        module = cast(HasFlopsPerUnit, pl_module)
        self._update, self.unit_name = trainer.global_step, module.unit_name
        self.flops_per_unit, self.flops_method = module.estimate_flops_per_unit()
        if pl_module.device.type == "cuda":
            device = pl_module.device
            self.meter.synchronize = lambda: torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock, which validation or a checkpoint may have stopped."""
        self.meter.start_step()
        if trainer.world_size > 1:
            self.forward.start(trainer.global_step, pl_module.device)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """End the timer of the forward pass."""
        if trainer.world_size > 1:
            self.forward.end(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the update, once all its batches are done: it is one however it is divided."""
        self._sums = [a + b for a, b in zip(self._sums, (batch.num_units, *batch.token_counts), strict=True)]
        if trainer.global_step == self._update:
            return
        self._update = trainer.global_step
        self.meter.end_step(*self._sums)
        self._sums = [0.0] * 3
        rate = self.meter.latest_rate
        if rate is not None and trainer.global_step % self.window_steps == 0:
            pl_module.log(f"performance/{self.unit_name}_per_sec_per_device", rate, batch_size=1)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exclude validation from the measured time."""
        self.meter.pause()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Exclude checkpoints from the measured time."""
        self.meter.pause()

    def summarize(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the numbers of this session for the record, with the unit in the keys."""
        self.meter.close_window()
        found = self.meter.summarize()
        rate = found.pop("units_per_sec")
        result: dict[str, Any] = {
            f"{self.unit_name}_per_sec_per_device": rate,
            f"{self.unit_name}_per_sec_global": self._average_over_ranks(trainer, rate),
            **found,
            **get_peak_memory(pl_module.device),
            "warmup_steps": self.meter.warmup_steps,
            "devices": trainer.world_size,
            "threads": torch.get_num_threads(),
        }
        return result | self._compare_ranks(trainer) | self._compute_utilization(pl_module, rate)

    def _compare_ranks(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Compare the forward time of all ranks: the slowest one over the median shows a straggler."""
        if trainer.world_size == 1:
            return {}
        times: list[float | None] = [None] * trainer.world_size
        torch.distributed.all_gather_object(times, self.forward.median_ms())
        found = [ms for ms in times if ms is not None]
        slowest = max(found) / median(found) if len(found) == len(times) else None
        return {"forward_ms_p50_by_rank": times, "slowest_rank": slowest}

    def _average_over_ranks(self, trainer: pl.Trainer, rate: float | int | None) -> float | None:
        if rate is None or trainer.world_size == 1:
            return rate
        total = trainer.strategy.reduce(torch.tensor(float(rate), device=trainer.strategy.root_device), reduce_op="sum")
        return float(total)

    def _compute_utilization(self, pl_module: pl.LightningModule, rate: float | int | None) -> dict[str, Any]:
        device = pl_module.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        peak = get_peak_flops(name, str(pl_module.trainer.precision))
        achieved = None if rate is None or self.flops_per_unit is None else rate * self.flops_per_unit
        try:
            share = compute_mfu(achieved, peak)
        except ValueError as error:  # the run itself succeeded
            share = None
            self.notes = [f"performance.mfu: left out: {error} ({name}, {self.flops_method})"]
        return {
            "device": name,
            "flops_per_unit": self.flops_per_unit,
            "flops_method": self.flops_method,
            "mfu": share,
        }
