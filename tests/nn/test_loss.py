from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbench.nn import loss as loss_module
from attnbench.nn.loss import linear_cross_entropy

N, V, D = 37, 11, 6


def inputs(bias: bool, dtype: torch.dtype = torch.double) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    shapes = [(N, D), (V, D), (V,)] if bias else [(N, D), (V, D)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes], torch.randint(0, V, (N,))


def ours(tensors: list[Tensor], target: Tensor, smoothing: float, chunk: int | None = 5) -> tuple[Tensor, Tensor]:
    hidden, weight, *bias = tensors
    return linear_cross_entropy(
        hidden, weight, bias[0] if bias else None, target, label_smoothing=smoothing, chunk=chunk
    )


@pytest.mark.parametrize("chunk", [1, 5, N, 1000, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_torch(bias: bool, smoothing: float, chunk: int | None) -> None:
    tensors, target = inputs(bias)
    loss, nll = ours(tensors, target, smoothing, chunk)
    logits = F.linear(*tensors)
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, target, reduction="none"))
    assert not nll.requires_grad
    found, wanted = torch.autograd.grad(loss / 7, tensors), torch.autograd.grad(expected / 7, tensors)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bias", [False, True])
def test_gradcheck(bias: bool) -> None:
    tensors, target = inputs(bias)
    assert torch.autograd.gradcheck(lambda *x: ours(list(x), target, 0.1)[0], tensors)


def test_without_gradients_the_values_are_the_same() -> None:
    tensors, target = inputs(bias=True)
    expected = ours(tensors, target, 0.1)
    with torch.no_grad():
        found = ours(tensors, target, 0.1)
    assert not found[0].requires_grad
    torch.testing.assert_close(found, (expected[0].detach(), expected[1]))


def test_a_part_may_be_frozen() -> None:
    (hidden, weight), target = inputs(bias=False)
    loss, _ = ours([hidden, weight.detach()], target, 0.1)
    loss.backward()
    assert hidden.grad is not None


@pytest.mark.parametrize("asks", [True, False], ids=["CPU", "GPU"])
def test_logits_far_from_zero_overflow_nothing(asks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "_asks", lambda device: asks)
    hidden = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]])
    target = torch.tensor([0, 0])
    loss, nll = ours([hidden, weight], target, 0.0)
    torch.testing.assert_close(nll, torch.tensor([0.0, 2000.0]))
    loss.backward()
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad, torch.tensor([[0.0], [-2.0]]))


def test_likelihoods_are_exact_down_to_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, target = torch.linspace(0, 300, 301).unsqueeze(1), torch.zeros(301, dtype=torch.long)
    weight = torch.tensor([[-1.0], [0.0]])
    _, nll = ours([hidden, weight], target, 0.0)
    torch.testing.assert_close(nll, F.cross_entropy(hidden @ weight.T, target, reduction="none"))
    monkeypatch.setattr(loss_module, "_asks", lambda device: False)
    torch.testing.assert_close(ours([hidden, weight], target, 0.0)[1], nll)


def test_no_tokens() -> None:
    (hidden, weight), target = inputs(bias=False)
    loss, nll = ours([hidden[:0], weight], target[:0], 0.1)
    loss.backward()
    assert loss == 0
    assert nll.shape == (0,)
    assert weight.grad is not None
    assert (weight.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_multiplies_in_its_type_and_sums_in_float32(dtype: torch.dtype) -> None:
    tensors, target = inputs(bias=True, dtype=torch.float32)
    exact, _ = ours(tensors, target, 0.1)
    with torch.autocast("cpu", dtype=dtype):
        loss, nll = ours(tensors, target, 0.1)
    assert loss.dtype == nll.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=0.01)
    assert loss.item() != exact.item()
    for found, wanted in zip(torch.autograd.grad(loss, tensors), torch.autograd.grad(exact, tensors), strict=True):
        assert found.dtype == torch.float32
        assert (found - wanted).norm() < 0.02 * wanted.norm()


def test_hidden_states_may_come_out_of_autocast() -> None:
    (hidden, weight), target = inputs(bias=False, dtype=torch.float32)
    half = hidden.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours([half, weight], target, 0.1)[0].backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32


def test_keeps_nothing_of_the_size_of_all_logits() -> None:
    tokens, vocabulary = 600, 500
    hidden = torch.randn(tokens, 4, requires_grad=True)
    weight = torch.randn(vocabulary, 4, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        linear_cross_entropy(hidden, weight, None, torch.zeros(tokens, dtype=torch.long), chunk=50)
    assert max(saved) == max(hidden.numel(), weight.numel())
