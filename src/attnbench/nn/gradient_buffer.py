"""Tensors that every step of a loop multiplies with: their gradients are computed of many steps at once, in place."""

# Shapes: K, N the sides of the shared matrix, R rows that a step multiplies with it

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_ROWS = 128  # of products, before they are added to a gradient: fewer leave a matrix product idle


def share(x: Tensor) -> Tensor:
    """x, for a loop whose steps `product` and the additive score take it to: what they add to its gradient costs less.

    Autograd has each step make a gradient as large as x, and adds them up. Here the steps of a backward pass write to
    one sum, or leave their factors to a product of many steps.
    """
    wanted = torch.is_grad_enabled() and x.requires_grad and not torch.compiler.is_compiling()
    # Autocast gives each product a type of its own.
    if not wanted or torch.is_autocast_enabled(x.device.type):
        return x
    shared: Tensor = _Shared.apply(x)
    return shared


def product(x_RK: Tensor, shared_KN: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """x_RK @ shared_KN + bias_N, of matrices or (without a bias) of as many matrices each."""
    gradient = gradient_of(shared_KN)
    if gradient is None:
        return x_RK @ shared_KN if bias_N is None else torch.addmm(bias_N, x_RK, shared_KN)
    found: Tensor = _Product.apply(x_RK, shared_KN, bias_N, gradient)
    return found


class Gradient:
    """Of a shared tensor, as it grows during a backward pass."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._pass = -1
        self._forget()

    def _forget(self) -> None:
        self._sum: Tensor | None = None
        self._factors: list[tuple[Tensor, Tensor]] = []
        self._rows = 0

    def _begin(self) -> None:
        """A backward pass need not have come to an end: with `inputs`, it goes only where it must."""
        current = torch._C._current_graph_task_id()
        if current != self._pass:
            self._pass = current
            self._forget()

    def sum(self) -> Tensor:
        """What to add to in place."""
        self._begin()
        if self._sum is None:
            self._sum = self._like.new_zeros(self._like.shape)
        return self._sum

    def add_product(self, left_RK: Tensor, right_RN: Tensor) -> None:
        """Add left^T right, sooner or later."""
        self._begin()
        self._factors.append((left_RK, right_RN))
        self._rows += left_RK.shape[-2]
        if self._rows >= _ROWS:
            self._multiply()

    def _multiply(self) -> None:
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

    def take(self) -> Tensor | None:
        """The whole, which is forgotten; None: nothing came."""
        self._begin()
        if self._factors:
            self._multiply()
        found = self._sum
        self._forget()
        return found


def gradient_of(shared: Tensor) -> Gradient | None:
    """Where steps add what they know of the gradient; None: `shared` is not, and they return it."""
    return getattr(shared.grad_fn, "gradient", None)


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.gradient = Gradient(x)
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None) -> Tensor | None:
        found: Tensor | None = ctx.gradient.take()
        if grad is None or found is None:
            return found if grad is None else grad
        return found.add_(grad)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_RK: Tensor, shared_KN: Tensor, bias_N: Tensor | None, gradient: Gradient) -> Tensor:
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
