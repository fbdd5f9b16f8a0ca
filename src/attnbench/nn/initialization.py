"""How weights start; the config names it."""

from __future__ import annotations

import torch
from torch import nn

from attnbench.config.model import Init
from attnbench.nn.projections import BranchEnd, PackedLinear

NORMAL_STD = 0.02  # of `init=normal`: Radford et al. 2019


@torch.no_grad()
def initialise(module: nn.Module, init: Init) -> None:
    """Initialize the linear and embedding weights of `module` and all that it contains; norms stay at one and zero.

    xavier: matrices uniform with variance 2 / (in + out) (Glorot and Bengio 2010, equation 16), packed ones each for
    itself; embeddings N(0, 1 / d_model), which scaling by sqrt(d_model) brings to unit variance. scaled: as xavier,
    and the last layer of each of the N residual branches over sqrt(N) (Radford et al. 2019, section 2.3). normal: all
    N(0, 0.02^2) (Radford et al. 2019). Biases and the vectors of padding are zero in all three. torch: as they are.
    Whichever it is, layers with a scale are multiplied with it. Recurrent cells and the patch embedding of a vision
    Transformer initialize themselves; convolutions of classifiers without attention do so whatever `init` is.
    """
    # Embeddings last: where an output projection is tied to one, the embedding's start counts.
    for layer in sorted(module.modules(), key=lambda layer: isinstance(layer, nn.Embedding)):
        if init is Init.torch:
            break
        if isinstance(layer, nn.Linear):
            _linear(layer, init)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=NORMAL_STD if init is Init.normal else layer.embedding_dim**-0.5)
            if layer.padding_idx is not None:
                layer.weight[layer.padding_idx] = 0.0
    ends = [layer for layer in module.modules() if isinstance(layer, BranchEnd)]
    for end in ends:
        end.weight.mul_(end.scale * (len(ends) ** -0.5 if init is Init.scaled else 1.0))
    for layer in module.modules():
        if isinstance(layer, PackedLinear):
            for part, scale in zip(torch.split(layer.weight, layer.widths), layer.scales, strict=True):
                part.mul_(scale)


def _linear(layer: nn.Linear, init: Init) -> None:
    if init is Init.normal:
        nn.init.normal_(layer.weight, std=NORMAL_STD)
    elif isinstance(layer, PackedLinear):
        for part, gain in zip(torch.split(layer.weight, layer.widths), layer.gains, strict=True):
            nn.init.xavier_uniform_(part, gain)
    else:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
