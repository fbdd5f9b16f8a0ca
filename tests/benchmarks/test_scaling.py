from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attnbench.benchmarks import device as device_module
from attnbench.benchmarks import scaling
from attnbench.benchmarks.measurement import measure_suite
from attnbench.benchmarks.results import Settings
from attnbench.benchmarks.scaling import AXES, ModelSize, build_update, plan_suite


def test_every_axis_has_a_row_and_holds_what_theory_says(
    asked: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "SAMPLE_MS", 0.001)
    monkeypatch.setattr(scaling, "_FACTORS", (1, 2))
    rows = measure_suite(plan_suite(asked()), repeats=1, print_progress=lambda said: None)
    assert [(row.name, row.error) for row in rows] == [
        (f"{name} {axis.start} to {2 * axis.start}", None) for name, axis in AXES.items()
    ]
    for row in rows:
        assert all(row.values[f"target_tokens_per_sec_at_{times}_times_p50"] > 0 for times in (1, 2))
        assert "target_tokens_per_sec_exponent_p50" in row.values
        expected = 0.0 if row.texts["memory"] == "O(1)" else 1.0
        assert row.values["peak_mib_exponent"] == pytest.approx(expected, abs=0.2), row.name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_update_is_one_of_training(
    asked: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    losses: list[float] = []
    backward = torch.autograd.backward
    monkeypatch.setattr(torch.autograd, "backward", lambda loss: (losses.append(loss.item()), backward(loss)))
    update = build_update(ModelSize(depth=1, d_model=16, num_heads=2, length=4), asked(dtype=dtype))
    for _ in range(10):
        update()
    assert losses[-1] < losses[0]
