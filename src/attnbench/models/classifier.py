"""Output of image classifiers."""

# Shapes: B batch, K classes, L layers, H heads, T tokens

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ClassifierOutput(NamedTuple):
    """logits_BK, and weights_LBHTT by name; None unless requested, and for networks without attention."""

    logits: Tensor
    attention: dict[str, Tensor] | None
