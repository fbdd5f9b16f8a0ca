"""Blocks that forget what they computed forward and compute it again backward: memory for time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from attnbench.nn.blocks import DecoderLayer, EncoderLayer


def recompute(network: nn.Module) -> int:
    """Let each block of `network` keep only what it was given (Chen et al. 2016, section 4.1); returns how many.

    Results are the same to the last bit: dropout draws the second time what it drew the first.
    """
    blocks = [module for module in network.modules() if isinstance(module, (EncoderLayer, DecoderLayer))]
    for block in blocks:
        block.forward = functools.partial(_recomputed, block.forward)  # type: ignore[method-assign]
    return len(blocks)


def _recomputed(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
