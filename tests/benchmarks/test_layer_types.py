from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attnbench.benchmarks import device as device_module
from attnbench.benchmarks.layer_types import list_layers, plan_suite
from attnbench.benchmarks.measurement import measure_suite
from attnbench.benchmarks.results import Settings
from attnbench.config.attention import Score
from attnbench.config.recurrent import Cell
from attnbench.nn.scoring import SCORES


def test_every_score_and_every_cell_has_a_row_with_numbers(
    asked: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "SAMPLE_MS", 0.001)
    rows = {
        row.name: row
        for row in measure_suite(plan_suite(asked(lengths=[6, 4, 8])), repeats=2, print_progress=lambda said: None)
    }
    assert [row.error for row in rows.values()] == [None] * len(rows)
    assert {name.rpartition(" ")[0] for name in rows if name.endswith(("fused", "eager"))} == {s.name for s in Score}
    assert {"scaled_dot fused", "scaled_dot eager", "convolution of 3"} | {cell.name for cell in Cell} <= set(rows)
    for row in rows.values():
        assert set(row.texts) == {"operations", "memory", "sequential", "path"}
        assert {"step_ms_exponent_p50", "peak_mib_exponent"} < set(row.values)
        assert all(row.values[f"step_ms_at_{n}_tokens_p50"] > 0 for n in (4, 6, 8))
        assert all(row.values[f"peak_mib_at_{n}_tokens"] > 0 for n in (4, 6, 8))


def test_layers_are_as_wide_as_their_input_and_mix_places_as_they_say(asked: Callable[..., Settings]) -> None:
    x = torch.randn(1, 9, 8, requires_grad=True)
    for layer in list_layers(asked(heads=2, width=4)):
        y = layer.layer_type.apply(layer.module, x)
        assert y.shape == x.shape, layer.name
        (grad,) = torch.autograd.grad(y[0, 4].sum(), x)
        reached = [place for place in range(9) if grad[0, place].abs().sum() > 0]
        expected = {"O(n^2 d)": range(9), "O(n d^2)": range(5), "O(k n d^2)": range(3, 6)}[layer.theory["operations"]]
        assert reached == list(expected), layer.name


@pytest.mark.parametrize(
    ("memory", "lengths", "exponent"),
    # The blocks in which an additive score works are of one size, and more than n^2 numbers before.
    [("O(n d)", [256, 512], 1.0), ("O(h n^2)", [512, 1024], 2.0)],
)
def test_memory_grows_as_theory_has_it(
    asked: Callable[..., Settings], memory: str, lengths: list[int], exponent: float
) -> None:
    found = [
        subject for subject in plan_suite(asked(lengths=lengths, width=2)).cases if subject.texts["memory"] == memory
    ]
    assert len(found) > 2
    for subject in found:
        assert subject.measure_once()["peak_mib_exponent"] == pytest.approx(exponent, abs=0.25), subject.name


def test_a_length_too_large_is_left_out_and_said_so(asked: Callable[..., Settings]) -> None:
    found = plan_suite(asked(lengths=[4, 1024], max_gib=0.02))
    left_out = [note for note in found.notes if "left out" in note]
    assert left_out == [
        f"{score.name} eager is left out at length 1024: it would hold 0.023 GiB, more than --max-gib 0.02."
        for score, kind in SCORES.items()
        if score is Score.scaled_dot or not kind.is_fusable
    ]
    explicit = next(subject for subject in found.cases if subject.name == "scaled_dot eager")
    assert list(explicit.measure_repeat()) == ["step_ms_at_4_tokens"]
