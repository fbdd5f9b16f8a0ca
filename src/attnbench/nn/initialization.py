"""Weight initialization; `model.init` names the scheme."""

from __future__ import annotations

import torch
from torch import nn

from attnbench.config.model import Init
from attnbench.nn.projections import PackedLinear, ResidualProjection

NORMAL_STD = 0.02  # of `init=normal`: Radford et al. 2019


@torch.no_grad()
def initialize_weights(module: nn.Module, init: Init) -> None:
    """Initialize all linear and embedding weights in `module`; norms stay at one and zero.

    xavier: matrices uniform with variance 2 / (in + out) (Glorot and Bengio 2010, equation 16), each part of a packed
    matrix separately; embeddings N(0, 1 / d_model), which scaling by sqrt(d_model) brings to unit variance.
    scaled: as xavier, with the last layer of each of the N residual branches divided by sqrt(N) (Radford et al. 2019,
    section 2.3).
    normal: all N(0, 0.02^2) (Radford et al. 2019). Biases and padding vectors are zero in these three.
    torch: torch's defaults.
    Afterwards, layers with a `scale` are multiplied by it. Recurrent cells and the patch embedding of a vision
    Transformer initialize themselves, and so do convolutions of classifiers without attention.

    Args:
        module: network or layer that is changed in place.
        init: the scheme.
    """
    # Embeddings last: if an output projection is tied to one, the embedding's initialization is used.
    for layer in sorted(module.modules(), key=lambda layer: isinstance(layer, nn.Embedding)):
        if init is Init.torch:
            break
        if isinstance(layer, nn.Linear):
            _initialize_linear(layer, init)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=NORMAL_STD if init is Init.normal else layer.embedding_dim**-0.5)
            if layer.padding_idx is not None:
                layer.weight[layer.padding_idx] = 0.0
    ends = [layer for layer in module.modules() if isinstance(layer, ResidualProjection)]
    for end in ends:
        end.weight.mul_(end.scale * (len(ends) ** -0.5 if init is Init.scaled else 1.0))
    for layer in module.modules():
        if isinstance(layer, PackedLinear):
            for part, scale in zip(torch.split(layer.weight, layer.widths), layer.scales, strict=True):
                part.mul_(scale)


def _initialize_linear(layer: nn.Linear, init: Init) -> None:
    """Initialize one linear layer."""
    if init is Init.normal:
        nn.init.normal_(layer.weight, std=NORMAL_STD)
    elif isinstance(layer, PackedLinear):
        for part, gain in zip(torch.split(layer.weight, layer.widths), layer.gains, strict=True):
            nn.init.xavier_uniform_(part, gain)
    else:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
