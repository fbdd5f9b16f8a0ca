from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnbench.nn import loss as loss_module
from attnbench.nn.loss import CrossEntropy, linear_cross_entropy

N, V, D = 37, 11, 6


def inputs(bias: bool, dtype: torch.dtype = torch.double) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(0)
    shapes = [(N, D), (V, D), (V,)] if bias else [(N, D), (V, D)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes], torch.randint(0, V, (N,))


def ours(tensors: list[Tensor], target: Tensor, smoothing: float, chunk: int | None = 5) -> CrossEntropy:
    hidden, weight, *bias = tensors
    return linear_cross_entropy(
        hidden, weight, bias[0] if bias else None, target, label_smoothing=smoothing, chunk_size=chunk
    )


@pytest.mark.parametrize("chunk", [1, 5, N, 1000, None])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_torch(bias: bool, smoothing: float, chunk: int | None) -> None:
    tensors, target = inputs(bias)
    loss, nll, each = ours(tensors, target, smoothing, chunk)
    logits = F.linear(*tensors)
    expected = F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, target, reduction="none"))
    torch.testing.assert_close(each, F.cross_entropy(logits, target, label_smoothing=smoothing, reduction="none"))
    torch.testing.assert_close(each.sum(), loss)
    assert not nll.requires_grad
    assert not each.requires_grad
    found, wanted = torch.autograd.grad(loss / 7, tensors), torch.autograd.grad(expected / 7, tensors)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("chunk", [5, 1000])
@pytest.mark.parametrize("branches", [True, False], ids=["CPU", "GPU"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("bias", [False, True])
def test_smoothed_loss_of_each_token_equals_torch(
    bias: bool, dtype: torch.dtype, branches: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half precision means autocast. Some targets have a p of zero in float32: on a CPU their loss is repaired."""
    monkeypatch.setattr(loss_module, "_is_branching_cheap", lambda device: branches)
    tensors, target = inputs(bias, dtype=torch.promote_types(dtype, torch.float32))
    tensors[0] = torch.cat((tensors[0][:-3].detach(), 100 * tensors[0][-3:].detach())).requires_grad_()
    target[-3:] = F.linear(*tensors)[-3:].argmin(1)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype.itemsize < 4):
        found = ours(tensors, target, 0.3, chunk)
        logits = F.linear(tensors[0], tensors[1])
    logits = logits.to(tensors[0].dtype) + (tensors[2] if bias else 0)
    expected = F.cross_entropy(logits, target, label_smoothing=0.3, reduction="none")
    assert (F.cross_entropy(logits, target, reduction="none")[-3:] > loss_module._MAX_RELIABLE_NLL).all()
    # Half precision rounds each logit; their mean, which torch takes of the rounded ones, is not rounded here.
    tolerance = {"rtol": 1e-2, "atol": 1e-2} if dtype.itemsize < 4 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(found.loss_N, expected, **tolerance)
    torch.testing.assert_close(found.loss_N.sum(), found.loss_sum)


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
    torch.testing.assert_close(found, CrossEntropy(*(part.detach() for part in expected)))


def test_a_part_may_be_frozen() -> None:
    (hidden, weight), target = inputs(bias=False)
    ours([hidden, weight.detach()], target, 0.1).loss_sum.backward()
    assert hidden.grad is not None


@pytest.mark.parametrize("asks", [True, False], ids=["CPU", "GPU"])
def test_logits_far_from_zero_overflow_nothing(asks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "_is_branching_cheap", lambda device: asks)
    hidden = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.0]])
    target = torch.tensor([0, 0])
    loss, nll, _ = ours([hidden, weight], target, 0.0)
    torch.testing.assert_close(nll, torch.tensor([0.0, 2000.0]))
    loss.backward()
    assert hidden.grad is not None
    torch.testing.assert_close(hidden.grad, torch.tensor([[0.0], [-2.0]]))


def test_likelihoods_are_exact_down_to_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, target = torch.linspace(0, 300, 301).unsqueeze(1), torch.zeros(301, dtype=torch.long)
    weight = torch.tensor([[-1.0], [0.0]])
    nll = ours([hidden, weight], target, 0.0).nll_N
    torch.testing.assert_close(nll, F.cross_entropy(hidden @ weight.T, target, reduction="none"))
    monkeypatch.setattr(loss_module, "_is_branching_cheap", lambda device: False)
    torch.testing.assert_close(ours([hidden, weight], target, 0.0).nll_N, nll)


def test_no_tokens() -> None:
    (hidden, weight), target = inputs(bias=False)
    loss, nll, each = ours([hidden[:0], weight], target[:0], 0.1)
    loss.backward()
    assert loss == 0
    assert nll.shape == each.shape == (0,)
    assert weight.grad is not None
    assert (weight.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_multiplies_in_its_type_and_sums_in_float32(dtype: torch.dtype) -> None:
    tensors, target = inputs(bias=True, dtype=torch.float32)
    exact = ours(tensors, target, 0.1).loss_sum
    with torch.autocast("cpu", dtype=dtype):
        loss, nll, each = ours(tensors, target, 0.1)
    assert loss.dtype == nll.dtype == each.dtype == torch.float32
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
        linear_cross_entropy(hidden, weight, None, torch.zeros(tokens, dtype=torch.long), chunk_size=50)
    assert max(saved) == max(hidden.numel(), weight.numel())
