from __future__ import annotations

import pytest

from attnbench.metrics.throughput import ThroughputMeter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.synchronised = 0

    def __call__(self) -> float:
        return self.now

    def synchronise(self) -> None:
        self.synchronised += 1


def meter(clock: Clock, window: int = 2, warmup: int = 1) -> ThroughputMeter:
    return ThroughputMeter(window, warmup, synchronize=clock.synchronise, clock=clock)


def step(meter: ThroughputMeter, clock: Clock, seconds: float, units: int, computed: int) -> None:
    meter.start_step()
    clock.now += seconds
    meter.end_step(units, units, computed)


def test_warm_up_is_dropped() -> None:
    clock = Clock()
    m = meter(clock)
    step(m, clock, 100.0, 1, 1)
    for _ in range(2):
        step(m, clock, 0.5, 90, 100)
    found = m.summarize()
    assert found["units_per_sec"] == pytest.approx(180.0)
    assert found["step_ms_p50"] == pytest.approx(500.0)
    assert found["padding"] == pytest.approx(0.1)
    assert found["steps"] == 2


def test_a_pause_is_not_training() -> None:
    clock = Clock()
    m = meter(clock, window=2, warmup=1)
    step(m, clock, 1.0, 1, 1)
    step(m, clock, 1.0, 10, 10)
    m.pause()
    clock.now += 1000.0  # validation
    step(m, clock, 1.0, 10, 10)
    assert m.summarize()["units_per_sec"] == pytest.approx(10.0)


def test_time_between_steps_counts_because_loading_data_does() -> None:
    clock = Clock()
    m = meter(clock, window=2, warmup=1)
    step(m, clock, 1.0, 1, 1)
    for _ in range(2):
        clock.now += 1.0  # loading
        step(m, clock, 1.0, 10, 10)
    assert m.summarize()["units_per_sec"] == pytest.approx(5.0)


def test_the_device_is_synchronised_once_a_window() -> None:
    clock = Clock()
    m = meter(clock, window=5, warmup=0)
    for _ in range(10):
        step(m, clock, 1.0, 1, 1)
    assert clock.synchronised == 2


def test_nothing_measured_is_none() -> None:
    assert meter(Clock()).summarize()["units_per_sec"] is None


def test_quantiles_tell_a_straggling_window() -> None:
    clock = Clock()
    m = meter(clock, window=1, warmup=0)
    for seconds in [0.1] * 19 + [9.0]:
        step(m, clock, seconds, 1, 1)
    found = m.summarize()
    assert found["step_ms_p50"] == pytest.approx(100.0)
    assert isinstance(found["step_ms_p95"], float)
    assert found["step_ms_p95"] > 1000
