"""Recurrent cells over many steps with hand-written forward and backward passes, faster on a CPU than autograd's.

models/recurrent_cells.py uses them; tests hold them equal to torch.nn.RNN, GRU and LSTM.
"""

# Shapes: N rows, H width of a state, G gates x H, D all gates of a GRU but the last,
#         R rows of all steps, step after step, as in a packed sequence

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbench.nn.gradient_buffer import GradientBuffer, get_gradient_buffer

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
Tensors = Sequence[Tensor]
StepResult = tuple[
    list[Tensor], list[Tensor]
]  # the state after a step; what its backward needs besides the state before
StepGradients = tuple[
    Tensor, Tensor | None, list[Tensor]
]  # gradients of u; of h before, by other ways; of the other state


class CellStep(Protocol):
    """Step of a cell whose gates are computed from the input term x and the recurrent term u."""

    @staticmethod
    def forward(x_NG: Tensor, u_NG: Tensor, state: Tensors, h_NH: Tensor) -> StepResult:
        """Compute the next state.

        Args:
            x_NG: input term of the gates.
            u_NG: recurrent term of the gates; may be overwritten.
            state: tensors of the previous state.
            h_NH: output buffer for the first tensor of the next state.

        Returns:
            The next state, and the tensors that `backward` needs.
        """
        ...

    @staticmethod
    def backward(state: Tensors, kept: Tensors, grads: Tensors, grad_x_NG: Tensor) -> StepGradients:
        """Compute the gradients of a step.

        Args:
            state: tensors of the previous state.
            kept: tensors that `forward` saved.
            grads: gradients of the next state.
            grad_x_NG: output buffer for the gradient of the input term.

        Returns:
            Gradient of the recurrent term, and the direct gradients of the previous state.
        """
        ...


class RnnStep:
    """Elman cell: tanh(x + u) (Elman 1990)."""

    @staticmethod
    def forward(x_NG: Tensor, u_NG: Tensor, state: Tensors, h_NH: Tensor) -> StepResult:
        """Compute h."""
        torch.add(x_NG, u_NG, out=h_NH).tanh_()
        return [h_NH], [h_NH]

    @staticmethod
    def backward(state: Tensors, kept: Tensors, grads: Tensors, grad_x_NG: Tensor) -> StepGradients:
        """Compute the gradients from that of h."""
        _tanh_backward(grads[0], kept[0], grad_input=grad_x_NG)
        return grad_x_NG, None, []


class GruStep:
    """Gated recurrent unit (Cho et al. 2014) with the reset gate after the product: the formulas of torch.nn.GRU."""

    @staticmethod
    def forward(x_NG: Tensor, u_NG: Tensor, state: Tensors, h_NH: Tensor) -> StepResult:
        """Compute h = (1 - z) n + z h, where n = tanh(x + r u)."""
        (old_NH,), d = state, 2 * h_NH.shape[1]
        r_NH, z_NH = u_NG[:, :d].add_(x_NG[:, :d]).sigmoid_().chunk(2, dim=1)
        n_NH = torch.addcmul(x_NG[:, d:], r_NH, u_NG[:, d:]).tanh_()
        torch.lerp(n_NH, old_NH, z_NH, out=h_NH)
        return [h_NH], [u_NG, n_NH]

    @staticmethod
    def backward(state: Tensors, kept: Tensors, grads: Tensors, grad_x_NG: Tensor) -> StepGradients:
        """Compute the gradients from that of h."""
        (old_NH,), (u_NG, n_NH), (grad_NH,) = state, kept, grads
        d = 2 * n_NH.shape[1]
        gates_ND, grad_gates_ND, grad_n_NH = u_NG[:, :d], grad_x_NG[:, :d], grad_x_NG[:, d:]
        (r_NH, z_NH), (grad_r_NH, grad_z_NH) = gates_ND.chunk(2, dim=1), grad_gates_ND.chunk(2, dim=1)
        grad_old_NH = grad_NH * z_NH
        torch.sub(grad_NH, grad_old_NH, out=grad_n_NH)
        _tanh_backward(grad_n_NH, n_NH, grad_input=grad_n_NH)
        torch.mul(grad_n_NH, u_NG[:, d:], out=grad_r_NH)
        torch.mul(grad_NH, old_NH - n_NH, out=grad_z_NH)
        _sigmoid_backward(grad_gates_ND, gates_ND, grad_input=grad_gates_ND)
        return torch.cat((grad_gates_ND, grad_n_NH * r_NH), dim=1), grad_old_NH, []


class LstmStep:
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gate (Gers et al. 2000).

    The formulas are those of torch.nn.LSTM.
    """

    @staticmethod
    def forward(x_NG: Tensor, u_NG: Tensor, state: Tensors, h_NH: Tensor) -> StepResult:
        """Compute h = o tanh(c), where c = f c + i g."""
        i_NH, f_NH, g_NH, o_NH = u_NG.add_(x_NG).chunk(4, dim=1)
        for gate_NH, squash in ((i_NH, "sigmoid_"), (f_NH, "sigmoid_"), (g_NH, "tanh_"), (o_NH, "sigmoid_")):
            getattr(gate_NH, squash)()
        c_NH = torch.addcmul(f_NH * state[1], i_NH, g_NH)
        tanh_NH = torch.tanh(c_NH)
        torch.mul(o_NH, tanh_NH, out=h_NH)
        return [h_NH, c_NH], [u_NG, tanh_NH]

    @staticmethod
    def backward(state: Tensors, kept: Tensors, grads: Tensors, grad_x_NG: Tensor) -> StepGradients:
        """Compute the gradients from those of h and c."""
        (u_NG, tanh_NH), (grad_h_NH, grad_c_NH) = kept, grads
        i_NH, f_NH, g_NH, o_NH = u_NG.chunk(4, dim=1)
        grad_i_NH, grad_f_NH, grad_g_NH, grad_o_NH = grad_x_NG.chunk(4, dim=1)
        grad_c_NH = grad_c_NH + torch.ops.aten.tanh_backward(grad_h_NH * o_NH, tanh_NH)
        for grad_NH, by_NH, times_NH, gate_NH, slope in (
            (grad_i_NH, grad_c_NH, g_NH, i_NH, _sigmoid_backward),
            (grad_f_NH, grad_c_NH, state[1], f_NH, _sigmoid_backward),
            (grad_g_NH, grad_c_NH, i_NH, g_NH, _tanh_backward),
            (grad_o_NH, grad_h_NH, tanh_NH, o_NH, _sigmoid_backward),
        ):
            torch.mul(by_NH, times_NH, out=grad_NH)
            slope(grad_NH, gate_NH, grad_input=grad_NH)
        return grad_x_NG, None, [grad_c_NH.mul_(f_NH)]


def run_cells(
    step: type[CellStep],
    x_RG: Tensor,
    sizes: Sequence[int],
    state: Tensors,
    u_HG: Tensor,
    bias_G: Tensor,
    is_reversed: bool = False,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a cell over packed sequences.

    Args:
        step: the cell.
        x_RG: input terms of the gates of all steps, as in a PackedSequence.
        sizes: number of rows of each step.
        state: tensors of the initial state.
        u_HG: recurrent weights, possibly with a gradient buffer (`buffer_gradients`).
        bias_G: recurrent bias.
        is_reversed: run from the last step to the first.

    Returns:
        h_RH of all steps, and the final state of each row.
    """
    order = range(len(sizes))[:: -1 if is_reversed else 1]
    h_RH, *final = _RunCells.apply(step, sizes, order, get_gradient_buffer(u_HG), x_RG, u_HG, bias_G, *state)
    return h_RH, tuple(final)


class _RunCells(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        step: type[CellStep],
        sizes: Sequence[int],
        order: Sequence[int],
        gradient: GradientBuffer | None,
        x_RG: Tensor,
        u_HG: Tensor,
        bias_G: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        h_RH = x_RG.new_empty(len(x_RG), u_HG.shape[0])
        # In-place views are safe here, because autograd keeps no views of a function's outputs.
        x_parts, h_parts = x_RG.split_with_sizes(sizes), h_RH.unsafe_split_with_sizes(sizes)
        saved: list[Tensor] = []
        for place in order:
            before = [part[: sizes[place]] for part in state]
            after, kept = step.forward(x_parts[place], torch.addmm(bias_G, before[0], u_HG), before, h_parts[place])
            state = _replace_first_rows(state, after)
            saved += [*before, *kept]
        ctx.step, ctx.sizes, ctx.order, ctx.gradient = step, sizes, order, gradient
        ctx.save_for_backward(u_HG, *saved)
        return h_RH, *state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RH: Tensor | None, *grads: Tensor | None) -> tuple[Any, ...]:
        u_HG, *saved = ctx.saved_tensors
        gradient = GradientBuffer(u_HG) if ctx.gradient is None else ctx.gradient
        each = len(saved) // len(ctx.sizes)
        zero_NH = u_HG.new_zeros(max(ctx.sizes), u_HG.shape[0])
        state: Tensors = [zero_NH if grad is None else grad for grad in grads]
        grad_x_RG, grad_bias_G = u_HG.new_empty(sum(ctx.sizes), u_HG.shape[1]), u_HG.new_zeros(u_HG.shape[1])
        grad_x_parts = grad_x_RG.split_with_sizes(ctx.sizes)
        grad_parts = None if grad_RH is None else grad_RH.split_with_sizes(ctx.sizes)
        for number, place in reversed(list(enumerate(ctx.order))):
            kept = saved[number * each : (number + 1) * each]
            after = [part[: ctx.sizes[place]] for part in state]
            if grad_parts is not None:
                after[0] = after[0] + grad_parts[place]
            grad_u_NG, grad_h_NH, others = ctx.step.backward(
                kept[: len(state)], kept[len(state) :], after, grad_x_parts[place]
            )
            through_u_NH = grad_u_NG @ u_HG.mT if grad_h_NH is None else grad_h_NH.addmm_(grad_u_NG, u_HG.mT)
            gradient.add_product(kept[0], grad_u_NG)
            grad_bias_G += grad_u_NG.sum(0)
            state = _replace_first_rows(state, [through_u_NH, *others])
        grad_u_HG = gradient.pop() if ctx.gradient is None else None
        return None, None, None, None, grad_x_RG, grad_u_HG, grad_bias_G, *state


def _replace_first_rows(state: Tensors, rows: Tensors) -> tuple[Tensor, ...]:
    """Return the state with its first rows replaced by `rows`."""
    pairs = zip(state, rows, strict=True)
    return tuple(new if len(new) == len(old) else torch.cat((new, old[len(new) :])) for old, new in pairs)
