"""Gradients of tensors that every step of a loop uses, accumulated in place.

Autograd allocates a full gradient for each step and adds the gradients. Here, the steps of a backward pass write into
one buffer, or leave their factors to one matrix product over many steps.
"""

# Shapes: K, N the sides of the shared matrix, R rows that a step multiplies with it

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbench.nn.autocast import is_autocast_enabled

_MAX_BUFFERED_ROWS = 128  # rows that are collected before one matrix product; smaller products are slower per row


def buffer_gradients(x: Tensor) -> Tensor:
    """Return `x` wrapped so that the gradients of many time steps accumulate in one buffer.

    Use the result with `matmul_with_buffer` or the additive score. Under autocast and torch.compile, `x` is returned
    unchanged.

    Args:
        x: tensor that each step of a loop uses.

    Returns:
        A tensor with the values of `x`.
    """
    wanted = torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling()
    # Autocast may give each product another dtype.
    if not wanted or is_autocast_enabled(x.device.type):
        return x
    shared: Tensor = _BufferedGradient.apply(x)
    return shared


def matmul_with_buffer(x_RK: Tensor, buffered_KN: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """Compute x_RK @ buffered_KN + bias_N; the gradient of `buffered_KN` goes to its buffer.

    Args:
        x_RK: matrix, or a batch of matrices.
        buffered_KN: result of `buffer_gradients`, or any tensor.
        bias_N: bias; only without a batch dimension.
    """
    gradient = get_gradient_buffer(buffered_KN)
    if gradient is None:
        return x_RK @ buffered_KN if bias_N is None else torch.addmm(bias_N, x_RK, buffered_KN)
    found: Tensor = _BufferedMatmul.apply(x_RK, buffered_KN, bias_N, gradient)
    return found


class GradientBuffer:
    """Gradient of a buffered tensor, accumulated during a backward pass."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._pass = -1
        self._clear()

    def _clear(self) -> None:
        """Clear the sum and the factors."""
        self._sum: Tensor | None = None
        self._factors: list[tuple[Tensor, Tensor]] = []
        self._rows = 0

    def _start_backward(self) -> None:
        """Clear the buffer at the start of a backward pass: the last one may have ended early (`inputs=...`)."""
        current = torch._C._current_graph_task_id()
        if current != self._pass:
            self._pass = current
            self._clear()

    def get_sum(self) -> Tensor:
        """Return the tensor that steps add to in place."""
        self._start_backward()
        if self._sum is None:
            self._sum = self._like.new_zeros(self._like.shape)
        return self._sum

    def add_product(self, left_RK: Tensor, right_RN: Tensor) -> None:
        """Add left^T right, now or together with later products.

        Args:
            left_RK: rows of the left factor.
            right_RN: rows of the right factor.
        """
        self._start_backward()
        self._factors.append((left_RK, right_RN))
        self._rows += left_RK.shape[-2]
        if self._rows >= _MAX_BUFFERED_ROWS:
            self._multiply_factors()

    def _multiply_factors(self) -> None:
        """Add the product of the collected factors to the sum."""
        left_RK, right_RN = (
            parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2) for parts in zip(*self._factors, strict=True)
        )
        self._factors, self._rows = [], 0
        if self._sum is None:
            self._sum = left_RK.mT @ right_RN
        elif self._sum.dim() == 2:
            self._sum.addmm_(left_RK.mT, right_RN)
        else:
            self._sum += left_RK.mT @ right_RN

    def pop(self) -> Tensor | None:
        """Return the accumulated gradient and clear the buffer; None if nothing was added."""
        self._start_backward()
        if self._factors:
            self._multiply_factors()
        found = self._sum
        self._clear()
        return found


def get_gradient_buffer(tensor: Tensor) -> GradientBuffer | None:
    """Return the buffer of a tensor; None for a tensor that `buffer_gradients` did not return."""
    return getattr(tensor.grad_fn, "gradient", None)


class _BufferedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.gradient = GradientBuffer(x)
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> Tensor | None:
        found: Tensor | None = ctx.gradient.pop()
        if grad is None or found is None:
            return found if grad is None else grad
        return found.add_(grad)


class _BufferedMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_RK: Tensor, shared_KN: Tensor, bias_N: Tensor | None, gradient: GradientBuffer) -> Tensor:
        ctx.save_for_backward(x_RK, shared_KN)
        ctx.gradient = gradient
        return x_RK @ shared_KN if bias_N is None else torch.addmm(bias_N, x_RK, shared_KN)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RN: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        x_RK, shared_KN = ctx.saved_tensors
        wants_x, _, wants_bias, _ = ctx.needs_input_grad
        ctx.gradient.add_product(x_RK, grad_RN)
        return grad_RN @ shared_KN.mT if wants_x else None, None, grad_RN.sum(0) if wants_bias else None, None
