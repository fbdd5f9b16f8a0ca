from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnbench.nn import gradient_buffer
from attnbench.nn.gradient_buffer import buffer_gradients, get_gradient_buffer, matmul_with_buffer

STEPS = 5
SHAPES = {"matrix": ((3, 4), (4, 6)), "a matrix each": ((2, 1, 3, 4), (2, 1, 4, 6))}


def factors(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(left, generator=generator, dtype=torch.double, requires_grad=True) for _ in range(STEPS)]
    return made, torch.randn(right, generator=generator, dtype=torch.double, requires_grad=True)


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
def test_gradients_are_those_of_plain_products(
    monkeypatch: pytest.MonkeyPatch, shapes: tuple[tuple[int, ...], tuple[int, ...]], rows: int
) -> None:
    """Whether each step's product is added at once, some steps' together, or all of them at the end."""
    monkeypatch.setattr(gradient_buffer, "_MAX_BUFFERED_ROWS", rows)
    steps, matrix = factors(*shapes)
    inputs = [*steps, matrix]

    def loss(right: Tensor) -> Tensor:
        # As it is besides: what does not know that it is shared, adds to its gradient in the usual way.
        return torch.stack([matmul_with_buffer(x, right).sin() for x in steps]).sum() + right.square().sum()

    plain, found = loss(matrix), loss(buffer_gradients(matrix))
    assert found.equal(plain)
    for one, other in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(plain, inputs), strict=True):
        torch.testing.assert_close(one, other)


def test_a_bias_is_added() -> None:
    (x, *_), matrix = factors((3, 4), (4, 6))
    bias = torch.randn(6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, m, b: matmul_with_buffer(x, buffer_gradients(m), b), (x, matrix, bias))
    assert matmul_with_buffer(x, matrix, bias).equal(matmul_with_buffer(x, buffer_gradients(matrix), bias))


def test_a_backward_pass_knows_nothing_of_one_before() -> None:
    """One that goes only where it must leaves its products behind."""
    (x, y, *_), matrix = factors((3, 4), (4, 6))
    right = buffer_gradients(matrix)
    loss = matmul_with_buffer(x, right).square().sum() + matmul_with_buffer(y, right).square().sum()
    torch.autograd.grad(loss, x, retain_graph=True)
    (first,) = torch.autograd.grad(loss, matrix, retain_graph=True)
    (again,) = torch.autograd.grad(loss, matrix)
    (expected,) = torch.autograd.grad((x @ matrix).square().sum() + (y @ matrix).square().sum(), matrix)
    torch.testing.assert_close(first, expected)
    assert first.equal(again)


def test_it_is_shared_only_for_gradients_of_one_type() -> None:
    matrix = torch.ones(4, 6, requires_grad=True)
    assert get_gradient_buffer(buffer_gradients(matrix)) is not None
    assert buffer_gradients(matrix.detach()) is not buffer_gradients(matrix)
    for same in (matrix.detach(), torch.ones(2)):
        assert buffer_gradients(same) is same
    with torch.no_grad():
        assert buffer_gradients(matrix) is matrix
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert buffer_gradients(matrix) is matrix
