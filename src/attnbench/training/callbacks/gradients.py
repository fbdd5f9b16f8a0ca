"""Gradient norm of each layer at the first update."""

from __future__ import annotations

import re
from typing import Any

import pytorch_lightning as pl
from torch import nn

from attnbench.nn.fsdp import gather_full_tensor
from attnbench.records.record import Record

_LAYER_PATTERN = re.compile(r"^(\w+)\.(?:\w+\.)*?(\d+)\.")  # the stack, and the layer's number in it


class InitialGradients(pl.Callback):
    """Stores the gradient norm of each layer at the first update in the record, as `metrics.initial.gradient_norm`.

    With pre-norm it decreases towards the input, with post-norm it increases towards the output: Xiong et al. 2020,
    Figure 3.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    def state_dict(self) -> dict[str, Any]:
        """Return the norms, which a resumed run cannot measure again."""
        return {"initial": self.record.metrics.get("initial")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep what was seen."""
        if state_dict["initial"] is not None:
            self.record.metrics["initial"] = state_dict["initial"]

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Measure before the first update, before clipping."""
        if trainer.global_step == 0:
            network = pl_module.network
            assert isinstance(network, nn.Module)
            self.record.metrics["initial"] = {"gradient_norm": compute_layer_gradient_norms(network)}


def compute_layer_gradient_norms(network: nn.Module) -> dict[str, float]:
    """Compute the gradient norm of each layer of each stack by name ("encoder 1", ...), in network order."""
    squares: dict[str, float] = {}
    for name, parameter in network.named_parameters():
        layer = _LAYER_PATTERN.match(name)
        if layer is not None and parameter.grad is not None:
            key = f"{layer[1]} {int(layer[2]) + 1}"
            squares[key] = squares.get(key, 0.0) + float(
                gather_full_tensor(parameter.grad.detach().float().square().sum())
            )
    return {key: square**0.5 for key, square in squares.items()}
