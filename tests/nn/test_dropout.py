from __future__ import annotations

import pytest
import torch

from attnbench.nn.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_drops_at_the_rate_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(400_001)
    y = Dropout(p)(x)
    zero = y == 0
    assert zero.float().mean().item() == pytest.approx(p, abs=0.004)  # five standard deviations
    assert y.mean().item() == pytest.approx(1, abs=0.003 + 0.01 * p)
    torch.testing.assert_close(y[~zero], torch.full_like(y[~zero], 1 / (1 - p)), rtol=2e-4, atol=0)
    # Neighbours share one draw of 64 bits; they are independent all the same.
    for apart in (1, 2, 3, 4):
        both = (zero[apart:] & zero[:-apart]).float().mean().item()
        assert both == pytest.approx(p * p, abs=0.004)


def test_the_gradient_drops_what_the_value_dropped() -> None:
    x = torch.ones(7, 5, requires_grad=True)
    y = Dropout(0.5)(x.T)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.T, y.detach())


def test_follows_the_seed() -> None:
    dropout, x = Dropout(0.3), torch.ones(1000)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert dropout(x).equal(first)
    assert not first.equal(second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_keeps_shape_and_type(dtype: torch.dtype) -> None:
    x = torch.ones(3, 0, 2, dtype=dtype)
    assert Dropout(0.3)(x).shape == x.shape
    assert Dropout(0.3)(torch.ones(3, 3, dtype=dtype)).dtype == dtype


def test_does_nothing_outside_training() -> None:
    x = torch.ones(5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
    assert Dropout(0.99999999)(x).isfinite().all()
