"""How fast training goes: units a second over windows of updates, pauses and warm-up left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles

WARMUP_STEPS = 10  # updates of a run that are not measured


@dataclass
class ThroughputMeter:
    """Counts real units (non-padding tokens, images) a second.

    The clock runs from the end of one window to the end of the next, so that loading data counts; it stands still
    between `pause` and the next `start_step` (validation, checkpoints). `synchronise` is called once a window, never
    each step: on a GPU that is what makes the clock mean something.
    """

    window_steps: int
    warmup_steps: int
    synchronise: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    _steps: int = 0  # seen, warm-up included
    _window: list[float] = field(default_factory=lambda: [0.0] * 4)  # steps, units, real, computed
    _seconds: float = 0.0
    _since: float | None = None
    _closed: list[list[float]] = field(default_factory=list)  # a window's sums, and its seconds

    def start_step(self) -> None:
        """Called before each step; ends a pause."""
        if self._since is None:
            self._since = self.clock()

    def end_step(self, units: float, real: float, computed: float) -> None:
        """Called after each step.

        Args:
            units: what the step trained on, in the unit that is reported.
            real: places in its tensors that hold something.
            computed: all places in its tensors, padding included.
        """
        self._steps += 1
        if self._steps <= self.warmup_steps:
            if self._steps == self.warmup_steps:
                self.synchronise()
                self._since = self.clock()
            return
        self._window = [a + b for a, b in zip(self._window, (1, units, real, computed), strict=True)]
        if self._window[0] >= self.window_steps:
            self.close_window()

    def pause(self) -> None:
        """Stop the clock until the next `start_step`."""
        if self._since is not None:
            self.synchronise()
            self._seconds += self.clock() - self._since
            self._since = None

    def close_window(self) -> None:
        """End the window now; one without steps is left open."""
        running = self._since is not None
        self.pause()
        if self._window[0] and self._seconds > 0:
            self._closed.append([*self._window, self._seconds])
            self._window, self._seconds = [0.0] * 4, 0.0
        if running:
            self._since = self.clock()

    @property
    def latest(self) -> float | None:
        """Units a second in the last closed window."""
        return self._closed[-1][1] / self._closed[-1][-1] if self._closed else None

    def summary(self) -> dict[str, float | int | None]:
        """Over every closed window; the values are None before the first has closed.

        `step_ms_p50` and `step_ms_p95` are quantiles over windows of a window's mean step.
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
