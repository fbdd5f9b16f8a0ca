"""Norms: what keeps vectors at one scale. Where they stand is nn/blocks.py's business."""

# Shapes: D d_model, after any leading dimensions

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.model import NormKind


class ScaleNorm(nn.Module):
    """g x / |x|, with one learned g, which starts at sqrt(d_model): Nguyen & Salazar 2019, equation 5."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(d_model**0.5))

    def forward(self, x_D: Tensor) -> Tensor:
        """Vectors of length g."""
        return self.gain.to(x_D.dtype) * F.normalize(x_D, dim=-1)


def _none(d_model: int) -> nn.Module:
    return nn.Identity()


NORMS: dict[NormKind, Callable[[int], nn.Module]] = {
    NormKind.layer: nn.LayerNorm,  # Ba et al. 2016
    NormKind.rms: nn.RMSNorm,  # Zhang & Sennrich 2019, equation 4
    NormKind.scale: ScaleNorm,
    NormKind.none: _none,
}


def build_norm(d_model: int, kind: NormKind) -> nn.Module:
    """The norm that `kind` names, for vectors of width `d_model`."""
    return NORMS[kind](d_model)
