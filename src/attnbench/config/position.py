"""Config of positions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import bounded_field


class Position(Enum):
    """Position encoding; nn/positions.py has one class per name."""

    sinusoidal = "sinusoidal"
    learned = "learned"
    relative = "relative"
    rotary = "rotary"
    alibi = "alibi"
    none = "none"


@dataclass
class PositionConfig:
    """Position encoding of all sequences of a model."""

    kind: Position = Position.sinusoidal
    max_len: int = bounded_field(1024, minimum=1, maximum=2**20)  # learned: number of positions
    max_distance: int = bounded_field(
        16, minimum=1, maximum=2**20
    )  # relative: larger distances are clipped to this one, k of Shaw et al. 2018
    rope_theta: float = bounded_field(10000.0, greater_than=1, maximum=1e12)  # rotary: longest wavelength over 2 pi
