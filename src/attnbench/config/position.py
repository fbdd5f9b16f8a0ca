"""What may be said about positions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import number


class Position(Enum):
    """How a model knows the order of its input (nn/positions.py has one class for each name)."""

    sinusoidal = "sinusoidal"
    learned = "learned"


@dataclass
class PositionConfig:
    """One kind of position for every sequence of a model."""

    kind: Position = Position.sinusoidal
    max_len: int = number(1024, at_least=1)  # longest sequence a learned table can place
