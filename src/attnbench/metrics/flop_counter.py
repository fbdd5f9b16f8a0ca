"""Floating-point operations of any network, counted while it runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

COUNTED = (
    "counted by torch.utils.flop_counter: 2 per multiply-add of matrix products, convolutions and attention (over the"
    " whole square, masked or not), forward and backward of one example; the rest not counted"
)


def training_flops_by_running(forward: Callable[[], Tensor]) -> float:
    """FLOPs of the forward pass `forward` and of its backward pass, counted while they run.

    The backward pass leaves gradients on whatever `forward` uses, so the caller passes a copy of its network, which may
    be on any device, "meta" included, where nothing is computed and the count is the same. No gradient is counted for
    an input that requires none, so the first layer costs a third less than the others.

    Raises:
        RuntimeError: nothing that `forward` uses requires a gradient.
    """
    # Fused attention computes the scores anew in its backward pass: the kernel's business, not the network's (model
    # FLOPs, not hardware FLOPs: Chowdhery et al. 2022, appendix B). The plain one is counted alike on every device.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        torch.autograd.backward(forward().sum())
    return float(counter.get_total_flops())
