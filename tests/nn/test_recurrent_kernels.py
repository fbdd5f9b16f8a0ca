from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from attnbench.nn.gradient_buffer import buffer_gradients
from attnbench.nn.recurrent_kernels import CellStep, GruStep, LstmStep, RnnStep, run_cells

I, H, SIZES = 3, 4, [4, 4, 3, 1, 1]  # noqa: E741
CELLS: dict[type[CellStep], type[nn.RNNBase]] = {RnnStep: nn.RNN, GruStep: nn.GRU, LstmStep: nn.LSTM}
each_cell = pytest.mark.parametrize("step", CELLS, ids=lambda step: step.__name__)


@pytest.mark.parametrize("how", ["shared", "as it is"])
@pytest.mark.parametrize("reverse", [False, True])
@each_cell
def test_equals_torch(step: type[CellStep], reverse: bool, how: str) -> None:
    """On sequences of several lengths, forward and backward: steps, last states, and every gradient."""
    torch.manual_seed(0)
    layer = CELLS[step](I, H, bidirectional=True).double()
    x = torch.randn(sum(SIZES), I, dtype=torch.double, requires_grad=True)
    state = [torch.randn(2, SIZES[0], H, dtype=torch.double, requires_grad=True) for _ in range(1 + (step is LstmStep))]
    names = [f"{name}_l0{'_reverse' * reverse}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    w, u, b, c = weights = [layer.get_parameter(name) for name in names]

    packed, after = layer(PackedSequence(x, torch.tensor(SIZES)), tuple(state) if step is LstmStep else state[0])
    finals = after if isinstance(after, tuple) else (after,)
    expected = [packed.data[:, H * reverse :][:, :H], *(final[int(reverse)] for final in finals)]

    u_HG = buffer_gradients(u.t()) if how == "shared" else u.t()
    top, last = run_cells(step, x @ w.t() + b, SIZES, [part[int(reverse)] for part in state], u_HG, c, reverse)
    found, inputs = [top, *last], [x, *state, *weights]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    for chosen in (slice(None), slice(1), slice(1, None)):
        one_loss, other_loss = (sum((part.sin() * 3).sum() for part in parts[chosen]) for parts in (found, expected))
        assert isinstance(one_loss, Tensor)
        assert isinstance(other_loss, Tensor)
        ones, others = (torch.autograd.grad(loss, inputs, retain_graph=True) for loss in (one_loss, other_loss))
        for one, other in zip(ones, others, strict=True):
            torch.testing.assert_close(one, other)


@each_cell
def test_without_gradients_nothing_is_asked_of_autograd(step: type[CellStep]) -> None:
    gates = CELLS[step](I, H).weight_hh_l0.shape[0]
    state = [torch.randn(2, H) for _ in range(1 + (step is LstmStep))]
    with torch.no_grad():
        top, last = run_cells(step, torch.randn(6, gates), [2, 2, 2], state, torch.randn(H, gates), torch.randn(gates))
    assert not top.requires_grad
    assert top[-2:].equal(last[0])
