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
    # Fused attention computes the scores anew in its backward pass: the kernel's business, not the network's (model
    # FLOPs, not hardware FLOPs: Chowdhery et al. 2022, appendix B). The plain one is counted alike on every device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.autograd.backward(forward().sum())
    return float(counter.get_total_flops())
