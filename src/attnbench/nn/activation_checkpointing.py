"""Activation checkpointing.

Blocks recompute their activations in the backward pass, which saves memory and costs time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from attnbench.nn.blocks import DecoderLayer, EncoderLayer


def apply_activation_checkpointing(network: nn.Module) -> int:
    """Make each block of a network keep only its inputs and recompute the rest in the backward pass.

    Results are equal bit for bit: dropout uses the same random numbers in both passes. Source: Chen et al. 2016,
    section 4.1.

    Args:
        network: network whose encoder and decoder layers are changed in place.

    Returns:
        Number of blocks that were changed.
    """
    blocks = [module for module in network.modules() if isinstance(module, (EncoderLayer, DecoderLayer))]
    for block in blocks:
        block.forward = functools.partial(_run_checkpointed, block.forward)  # type: ignore[method-assign]
    return len(blocks)


def _run_checkpointed(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run `forward` under torch.utils.checkpoint when gradients are needed."""
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
