"""Throughput of training: units per second over windows of updates, without pauses and warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles

WARMUP_STEPS = 10  # updates of a run that are not measured


@dataclass
class ThroughputMeter:
    """Meter of real units (non-padding tokens, images) per second.

    The clock runs from the end of one window to the end of the next, so it includes data loading. It stops between
    `pause` and the next `start_step` (validation, checkpoints). `synchronize` waits for the GPU and is called once
    for each window.
    """

    window_steps: int
    warmup_steps: int
    synchronize: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    _steps: int = 0  # seen, warm-up included
    _window: list[float] = field(default_factory=lambda: [0.0] * 4)  # steps, units, real, computed
    _seconds: float = 0.0
    _started_at: float | None = None
    _closed: list[list[float]] = field(default_factory=list)  # a window's sums, and its seconds

    def start_step(self) -> None:
        """Start a step, and end a pause."""
        if self._started_at is None:
            self._started_at = self.clock()

    def end_step(self, units: float, num_real: float, num_computed: float) -> None:
        """End a step.

        Args:
            units: number of trained units.
            num_real: number of non-padding elements in the step's tensors.
            num_computed: number of all elements, padding included.
        """
        self._steps += 1
        if self._steps <= self.warmup_steps:
            if self._steps == self.warmup_steps:
                self.synchronize()
                self._started_at = self.clock()
            return
        self._window = [a + b for a, b in zip(self._window, (1, units, num_real, num_computed), strict=True)]
        if self._window[0] >= self.window_steps:
            self.close_window()

    def pause(self) -> None:
        """Stop the clock until the next `start_step`."""
        if self._started_at is not None:
            self.synchronize()
            self._seconds += self.clock() - self._started_at
            self._started_at = None

    def close_window(self) -> None:
        """End the window now; a window without steps stays open."""
        running = self._started_at is not None
        self.pause()
        if self._window[0] and self._seconds > 0:
            self._closed.append([*self._window, self._seconds])
            self._window, self._seconds = [0.0] * 4, 0.0
        if running:
            self._started_at = self.clock()

    @property
    def latest_rate(self) -> float | None:
        """Units per second in the last closed window; None before."""
        return self._closed[-1][1] / self._closed[-1][-1] if self._closed else None

    def summarize(self) -> dict[str, float | int | None]:
        """Summarize all closed windows; all values are None before the first one is closed.

        `step_ms_p50` and `step_ms_p95` are quantiles over windows of the mean step time.
        """
        if not self._closed:
            return {"units_per_sec": None, "step_ms_p50": None, "step_ms_p95": None, "padding": None, "steps": 0}
        steps, units, real, computed, seconds = (sum(column) for column in zip(*self._closed, strict=True))
        step_ms = [1000 * window[-1] / window[0] for window in self._closed]
        return {
            "units_per_sec": units / seconds,
            "step_ms_p50": median(step_ms),
            "step_ms_p95": quantiles(step_ms, n=20)[-1] if len(step_ms) > 1 else step_ms[0],
            "padding": 1 - real / computed,
            "steps": int(steps),
        }
