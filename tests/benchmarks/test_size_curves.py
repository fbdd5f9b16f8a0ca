from __future__ import annotations

import random

import pytest
import torch

from attnbench.benchmarks import size_curves
from attnbench.benchmarks.measurement import Measurements, summarize_samples
from attnbench.benchmarks.size_curves import SizeCurve, fit_crossing, fit_exponent
from attnbench.benchmarks.table import SIZED_KEY

SIZES = (8, 16, 32, 64, 128)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_an_exact_power_is_its_exponent(power: float, count: int) -> None:
    assert fit_exponent({n: 7 * n**power for n in SIZES[:count]}) == pytest.approx(power)


def test_the_larger_half_is_fitted_and_three_sizes_at_least() -> None:
    bent = {n: float(n if n < 32 else n**2) for n in (*SIZES, 256)}
    assert fit_exponent(bent) == pytest.approx(2)
    assert fit_exponent({n: bent[n] for n in (8, 16, 32)}) == pytest.approx(3.5)  # one, then six


def test_too_few_sizes_have_no_exponent_and_no_crossing() -> None:
    assert fit_exponent({}) is fit_exponent({8: 1.0}) is None
    assert fit_crossing({8: 1.0, 16: 3.0}) is None


def test_noise_shows_in_quartiles_over_repeats() -> None:
    draw = random.Random(0)
    noisy = [fit_exponent({n: n**2 * draw.lognormvariate(0, 0.1) for n in SIZES}) or 0.0 for _ in range(25)]
    found = summarize_samples("exponent", noisy)
    assert found["exponent_p25"] < found["exponent_p50"] < found["exponent_p75"]
    assert found["exponent_p50"] == pytest.approx(2, abs=0.1)


def test_terms_cross_where_they_are_equal() -> None:
    assert fit_crossing({n: 0.5 + 0.6 * n + 0.02 * n**2 for n in SIZES}) == pytest.approx(30)
    assert fit_crossing({n: 3.0 * n for n in SIZES}) is None
    assert fit_crossing({n: 3.0 * n**3 for n in SIZES}) is None


def test_a_curve_has_every_size_and_how_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[object, int] = {}

    def step_of(size: int) -> object:
        def step() -> None: ...

        sizes[step] = size
        return step

    monkeypatch.setattr(size_curves, "measure_seconds", lambda step, device: 1e-3 * (sizes[step] + sizes[step] ** 2))
    monkeypatch.setattr(size_curves, "measure_peak_bytes", lambda step, device: 2**20 * sizes[step] ** 2)
    curve = SizeCurve(step_of, SIZES, "tokens", torch.device("cpu"), find_crossing=True)  # type: ignore[arg-type]
    found: Measurements = curve.measure_time()
    assert list(found)[:2] == ["step_ms_exponent", "crossing_tokens"]
    assert found["crossing_tokens"] == pytest.approx(1)
    assert found["step_ms_at_16_tokens"] == pytest.approx(16 + 256)
    assert curve.measure_memory() == pytest.approx(
        {"peak_mib_exponent": 2.0} | {f"peak_mib_at_{n}_tokens": float(n**2) for n in SIZES}
    )
    match = SIZED_KEY.fullmatch("step_ms_at_16_tokens_p50")
    assert match is not None
    assert match.groups() == ("step_ms", "16", "tokens", "_p50")
    assert SIZED_KEY.fullmatch("step_ms_at_16_tokens_p25") is None
