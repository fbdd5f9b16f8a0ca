"""Norms: what keeps vectors at one scale. Where they stand is nn/blocks.py's business."""

# Shapes: D d_model, after any leading dimensions; N real vectors

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.model import NormKind
from attnbench.nn.autocast import to_exact

# Every norm takes x_D and, where some vectors are padding, `real`: x's leading dimensions, False for those. Statistics,
# and the sums over vectors that are the gradients of gain and bias, are in float32 at least, and so is what comes out:
# what autocast does on a GPU, where on a CPU torch adds up those gradients in bfloat16.


class LayerNorm(nn.LayerNorm):
    """(x - mean) / std over D, with a gain and a bias for each coordinate: Ba et al. 2016, equation 4."""

    def forward(self, x_D: Tensor, real: Tensor | None = None) -> Tensor:
        """Return vectors of mean zero and variance one, but for gain and bias."""
        return super().forward(to_exact(x_D))


class RMSNorm(nn.RMSNorm):
    """x over its root mean square, with a gain for each coordinate: Zhang & Sennrich 2019, equation 4."""

    def forward(self, x_D: Tensor, real: Tensor | None = None) -> Tensor:
        """Return vectors of mean square one, but for the gain."""
        return super().forward(to_exact(x_D))


class BatchNorm(nn.BatchNorm1d):
    """(x - mean) / std of each coordinate over all real vectors of a batch: Ioffe & Szegedy 2015, algorithm 1.

    In evaluation mean and std are running averages. In training a vector sees all others, later ones too: a decoder's
    likelihood in training is no likelihood (Shen et al. 2020 measure what that costs).
    """

    def forward(self, x_D: Tensor, real: Tensor | None = None) -> Tensor:
        """Return vectors whose coordinates have mean zero and variance one over the batch, but for gain and bias."""
        x_D = to_exact(x_D)
        rows_ND = x_D.flatten(0, -2) if real is None else x_D[real]
        # One vector has no variance: it is normalised as in evaluation, and the averages do not move.
        alone = self.training and len(rows_ND) == 1
        averages = (self.running_mean, self.running_var, self.weight, self.bias)
        rows_ND = F.batch_norm(rows_ND, *averages, eps=self.eps) if alone else super().forward(rows_ND)
        if real is None:
            return rows_ND.view_as(x_D)
        return torch.zeros_like(x_D, dtype=rows_ND.dtype).masked_scatter(real.unsqueeze(-1), rows_ND)


class ScaleNorm(nn.Module):
    """g x / |x|, with one learned g, which starts at sqrt(d_model): Nguyen & Salazar 2019, equation 5."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(d_model**0.5))

    def forward(self, x_D: Tensor, real: Tensor | None = None) -> Tensor:
        """Return vectors of length g."""
        return self.gain * F.normalize(to_exact(x_D), dim=-1)


class NoNorm(nn.Module):
    """x: the ablation."""

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def forward(self, x_D: Tensor, real: Tensor | None = None) -> Tensor:
        """Return x."""
        return x_D


NORMS: dict[NormKind, Callable[[int], nn.Module]] = {
    NormKind.layer: LayerNorm,
    NormKind.rms: RMSNorm,
    NormKind.batch: BatchNorm,
    NormKind.scale: ScaleNorm,
    NormKind.none: NoNorm,
}


def build_norm(d_model: int, kind: NormKind) -> nn.Module:
    """The norm that `kind` names, for vectors of width `d_model`."""
    return NORMS[kind](d_model)
