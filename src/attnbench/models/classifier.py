"""What a classifier of pictures returns."""

# Shapes: B batch, K classes, L layers, H heads, T tokens

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ClassifierOutput(NamedTuple):
    """logits_BK, and, by name, weights_LBHTT; None unless asked for, and where there is no attention."""

    logits: Tensor
    attention: dict[str, Tensor] | None
