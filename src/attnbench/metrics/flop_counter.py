"""Floating-point operations of any network, counted while it runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

METHOD = (
    "counted by torch.utils.flop_counter: 2 per multiply-add of matrix products, convolutions and attention (over the"
    " whole square, masked or not), forward and backward of one example; the rest not counted"
)


def count_training_flops(forward: Callable[[], Tensor]) -> float:
    """Count the FLOPs of a forward pass and its backward pass by running them.

    The backward pass leaves gradients, so the caller passes a copy of its network, on any device; "meta" computes
    nothing and gives the same count. No gradient is counted for an input that requires none, so the first layer costs
    a third less.

    Args:
        forward: runs the forward pass and returns the loss.

    Raises:
        RuntimeError: if nothing that `forward` uses requires a gradient.
    """
    # Fused attention recomputes the scores in its backward pass, which is not counted as work of the model (model
    # FLOPs, not hardware FLOPs: Chowdhery et al. 2022, appendix B). Eager attention has the same count on all devices.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.autograd.backward(forward().sum())
    return float(counter.get_total_flops())
