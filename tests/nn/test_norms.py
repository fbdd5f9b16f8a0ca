from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attnbench.config.model import NormType
from attnbench.nn.norms import NORMS, build_norm

D = 6


# The norm of one vector x of a batch, with its parameters as they start.
FORMULAS: dict[NormType, Callable[[Tensor, Tensor], Tensor]] = {
    NormType.layer: lambda x, batch_ND: (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt(),
    NormType.rms: lambda x, batch_ND: x / x.square().mean().sqrt(),
    NormType.batch: lambda x, batch_ND: (x - batch_ND.mean(0)) / (batch_ND.var(0, correction=0) + 1e-5).sqrt(),
    NormType.scale: lambda x, batch_ND: D**0.5 * x / x.norm(),
    NormType.none: lambda x, batch_ND: x,
}


def test_every_norm_is_there() -> None:
    assert set(NORMS) == set(NormType)


@pytest.mark.parametrize("kind", FORMULAS)
def test_norm_equals_its_formula(kind: NormType) -> None:
    x = torch.randn(2, 3, D, dtype=torch.double)
    found = build_norm(D, kind).double()(x)
    for place in ((0, 0), (1, 2)):
        torch.testing.assert_close(found[place], FORMULAS[kind](x[place], x.flatten(0, 1)))


@pytest.mark.parametrize("kind", NormType)
def test_gradients(kind: NormType) -> None:
    norm = build_norm(D, kind).double()
    inputs = [torch.randn(2, D, dtype=torch.double, requires_grad=True), *norm.parameters()]
    assert torch.autograd.gradcheck(lambda x, *_: norm(x), inputs)


@pytest.mark.parametrize("kind", NormType)
def test_a_vector_of_zeros_is_no_division_by_zero(kind: NormType) -> None:
    x = torch.zeros(1, D, requires_grad=True)
    build_norm(D, kind)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", NormType)
def test_padding_changes_nothing(kind: NormType, training: bool) -> None:
    norm, x = build_norm(D, kind).train(training), torch.randn(2, 4, D)
    real = torch.tensor([[True, True, True, False], [True, False, False, False]])
    found = norm(x, real)[real]
    alone = build_norm(D, kind).train(training)
    torch.testing.assert_close(found, alone(x[real].unsqueeze(0))[0])
    for (name, after), other in zip(norm.state_dict().items(), alone.state_dict().values(), strict=True):
        torch.testing.assert_close(after, other, msg=name)


def test_batch_norm_of_one_vector_is_that_of_evaluation() -> None:
    norm, x = build_norm(D, NormType.batch), torch.randn(1, 1, D)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    torch.testing.assert_close(norm(x), norm.eval()(x))
    assert all(norm.state_dict()[name].equal(value) for name, value in before.items())


@pytest.mark.parametrize("kind", NormType)
def test_statistics_and_gradients_are_exact_under_autocast(kind: NormType) -> None:
    torch.manual_seed(0)
    x = (torch.randn(4, 50, 64) + 8).bfloat16()
    target = torch.randn(4, 50, 64)

    def run(dtype: torch.dtype, is_mixed: bool) -> tuple[Tensor, ...]:
        norm, leaf = build_norm(64, kind).to(dtype), x.to(dtype if not is_mixed else x.dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            found = norm(leaf)
        return found, *torch.autograd.grad((found * target.to(dtype)).sum(), [*norm.parameters()] or [leaf])

    for found, wanted in zip(run(torch.float32, True), run(torch.float64, False), strict=True):
        close = 0.005 if kind is NormType.none else 1e-4  # the gradient of x itself is rounded, as x is
        assert (found.double() - wanted).norm() < close * wanted.norm()
