"""What may be said about positions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import number


class Position(Enum):
    """How a model knows the order of its input (nn/positions.py has one class for each name)."""

    sinusoidal = "sinusoidal"
    learned = "learned"
    relative = "relative"
    rotary = "rotary"
    alibi = "alibi"
    none = "none"


@dataclass
class PositionConfig:
    """One kind of position for every sequence of a model."""

    kind: Position = Position.sinusoidal
    max_len: int = number(1024, at_least=1, at_most=2**20)  # longest sequence a learned table can place
    max_distance: int = number(
        16, at_least=1, at_most=2**20
    )  # relative: from here on all distances are one: k of Shaw et al. 2018
    base: float = number(10000.0, above=1, at_most=1e12)  # rotary: longest wavelength over 2 pi
