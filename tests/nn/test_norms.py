from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnbench.config.model import NormKind
from attnbench.nn.norms import NORMS, build_norm

D = 6


def by_hand(kind: NormKind, x: Tensor) -> Tensor:
    """The norm of one vector, with its parameters as they start."""
    match kind:
        case NormKind.layer:
            return (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
        case NormKind.rms:
            return x / x.square().mean().sqrt()
        case NormKind.scale:
            return D**0.5 * x / x.norm()
        case NormKind.none:
            return x
    raise AssertionError("write down the formula of a new norm here")


def test_every_norm_is_there() -> None:
    assert set(NORMS) == set(NormKind)


@pytest.mark.parametrize("kind", NormKind)
def test_is_its_formula(kind: NormKind) -> None:
    x = torch.randn(2, 3, D, dtype=torch.double)
    found = build_norm(D, kind).double()(x)
    for place in ((0, 0), (1, 2)):
        torch.testing.assert_close(found[place], by_hand(kind, x[place]))


@pytest.mark.parametrize("kind", NormKind)
def test_gradients(kind: NormKind) -> None:
    norm = build_norm(D, kind).double()
    inputs = [torch.randn(2, D, dtype=torch.double, requires_grad=True), *norm.parameters()]
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), inputs)


@pytest.mark.parametrize("kind", NormKind)
def test_a_vector_of_zeros_is_no_division_by_zero(kind: NormKind) -> None:
    x = torch.zeros(1, D, requires_grad=True)
    build_norm(D, kind)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
