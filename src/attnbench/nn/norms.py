"""Normalization layers for vectors; nn/blocks.py decides where they stand."""

# Shapes: D d_model, after any leading dimensions; N real vectors

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.model import NormType
from attnbench.nn.autocast import to_at_least_float32

# Every norm takes x_D and, where some vectors are padding, `real`: x's leading dimensions, False for those. Statistics,
# and the sums over vectors that are the gradients of gain and bias, are in float32 at least, and so is what comes out:
# what autocast does on a GPU, where on a CPU torch adds up those gradients in bfloat16.


class LayerNorm(nn.LayerNorm):
    """Layer normalization: (x - mean) / std over D, with a gain and a bias for each coordinate.

    Source: Ba et al. 2016, equation 4.
    """

    def forward(self, x_D: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Return vectors with mean zero and variance one, before gain and bias.

        Args:
            x_D: vectors of width D, with any leading dimensions.
            token_mask: not used.
        """
        return super().forward(to_at_least_float32(x_D))


class RMSNorm(nn.RMSNorm):
    """RMS normalization: x / root mean square, with a gain for each coordinate (Zhang & Sennrich 2019, equation 4)."""

    def forward(self, x_D: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Return vectors with mean square one, before the gain.

        Args:
            x_D: vectors of width D, with any leading dimensions.
            token_mask: not used.
        """
        return super().forward(to_at_least_float32(x_D))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalization: (x - mean) / std of each coordinate over all non-padding vectors of a batch.

    Source: Ioffe & Szegedy 2015, algorithm 1. In evaluation, mean and std are running averages. In training, a vector
    sees all others, later ones too, so a decoder's training likelihood is not a likelihood (Shen et al. 2020 measure
    the effect).
    """

    def forward(self, x_D: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Return vectors whose coordinates have mean zero and variance one over the batch, before gain and bias.

        Args:
            x_D: vectors; the last dimension is D.
            token_mask: False at padding vectors, which are left out of the statistics; None when there are none.
        """
        x_D = to_at_least_float32(x_D)
        rows_ND = x_D.flatten(0, -2) if token_mask is None else x_D[token_mask]
        # One vector has no variance: it is normalized as in evaluation, without an update of the averages.
        alone = self.training and len(rows_ND) == 1
        averages = (self.running_mean, self.running_var, self.weight, self.bias)
        rows_ND = F.batch_norm(rows_ND, *averages, eps=self.eps) if alone else super().forward(rows_ND)
        if token_mask is None:
            return rows_ND.view_as(x_D)
        return torch.zeros_like(x_D, dtype=rows_ND.dtype).masked_scatter(token_mask.unsqueeze(-1), rows_ND)


class ScaleNorm(nn.Module):
    """ScaleNorm: g x / |x| with one learned g, initialized to sqrt(d_model) (Nguyen & Salazar 2019, equation 5)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(d_model**0.5))

    def forward(self, x_D: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Return vectors of length g.

        Args:
            x_D: vectors of width D, with any leading dimensions.
            token_mask: not used.
        """
        return self.gain * F.normalize(to_at_least_float32(x_D), dim=-1)


class NoNorm(nn.Module):
    """Identity, for ablations."""

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def forward(self, x_D: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Return x."""
        return x_D


NORMS: dict[NormType, Callable[[int], nn.Module]] = {
    NormType.layer: LayerNorm,
    NormType.rms: RMSNorm,
    NormType.batch: BatchNorm,
    NormType.scale: ScaleNorm,
    NormType.none: NoNorm,
}


def build_norm(d_model: int, norm_type: NormType) -> nn.Module:
    """Build the norm that `norm_type` names, for vectors of width `d_model`.

    Args:
        d_model: width of the vectors.
        norm_type: kind of norm.
    """
    return NORMS[norm_type](d_model)
