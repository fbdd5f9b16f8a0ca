"""What is measured of training: by updates, however they are divided, and never at the cost of a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from attnbench.metrics.throughput import ThroughputMeter
from attnbench.training.callbacks import performance
from attnbench.training.callbacks.performance import ForwardTimer, Performance


def train(parts: int, updates: int = 12) -> Performance:
    """Train on `updates` updates of 60 units in 80 places, each divided in `parts`, at 6 seconds an update."""
    measured = Performance(window_steps=2, warmup_steps=2)
    now = 0.0
    measured.meter = ThroughputMeter(2, 2, clock=lambda: now)
    trainer: Any = SimpleNamespace(global_step=0, world_size=1, precision="32-true")
    module: Any = SimpleNamespace(
        device=torch.device("cpu"),
        estimate_flops_per_unit=lambda: (5.0, "by hand"),
        trainer=trainer,
        unit_name="images",
    )
    module.log = lambda *args, **kwargs: None
    measured.on_train_start(trainer, module)
    batch = SimpleNamespace(num_units=60 // parts, token_counts=(60 // parts, 80 // parts))
    for number in range(updates * parts):
        measured.on_train_batch_start(trainer, module, batch, number)
        now += 6.0 / parts
        trainer.global_step += (number + 1) % parts == 0
        measured.on_train_batch_end(trainer, module, None, batch, number)
    cast(Any, measured).found = measured.summarize(trainer, module)
    return measured


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_an_update_is_one_however_it_is_divided(parts: int) -> None:
    found = cast(Any, train(parts)).found
    assert found["steps"] == 10, "of 12 updates less two of warm-up"
    assert found["step_ms_p50"] == pytest.approx(6000.0)
    assert found["images_per_sec_global"] == pytest.approx(10.0)
    assert found["padding"] == pytest.approx(0.25)


def test_an_mfu_that_cannot_be_is_left_out_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "get_peak_flops", lambda name, precision: 40.0)
    measured = train(1)
    assert cast(Any, measured).found["mfu"] is None
    assert measured.notes == [
        "performance.mfu: left out: MFU of 125%: 50 FLOP/s on a device that does 40 (cpu, by hand)"
    ]
    monkeypatch.setattr(performance, "get_peak_flops", lambda name, precision: 100.0)
    measured = train(1)
    assert (cast(Any, measured).found["mfu"], measured.notes) == (pytest.approx(0.5), [])


def test_forward_passes_of_one_update_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(performance.time, "perf_counter", lambda: float(next(clock)))
    forward, device = ForwardTimer(every=2), torch.device("cpu")
    assert forward.median_ms() is None
    for step in range(4):  # two batches an update, each forward pass a second; update 1 and 3 are measured
        for _ in range(2):
            forward.start(step, device)
            forward.end(device)
    assert forward.median_ms() == pytest.approx(2000.0)


def test_a_session_without_an_update_knows_its_unit() -> None:
    """Otherwise a resumed run would have another column of throughput than the other runs of its sweep."""
    module: Any = SimpleNamespace(
        device=torch.device("cpu"), estimate_flops_per_unit=lambda: (5.0, "by hand"), unit_name="images"
    )
    module.trainer = SimpleNamespace(global_step=7, world_size=1, precision="32-true")
    measured = Performance()
    measured.on_train_start(module.trainer, module)
    found = measured.summarize(module.trainer, module)
    assert found["images_per_sec_global"] is None
    assert not [key for key in found if key.startswith("units_")]
