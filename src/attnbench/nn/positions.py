"""Positional encodings: how a model that sees a set knows the order of its input."""

# Shapes: B batch, L length, D d_model

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from attnbench.config.position import Position, PositionConfig

POSITIONS: dict[Position, type[PositionalEncoding]] = {}


class PositionalEncoding(nn.Module, ABC):
    """Adds to each vector where it stands; a subclass joins the registry by naming its Position."""

    def __init_subclass__(cls, kind: Position) -> None:
        super().__init_subclass__()
        POSITIONS[kind] = cls

    def __init__(self, d_model: int, config: PositionConfig) -> None:
        super().__init__()
        self.d_model, self.max_len = d_model, config.max_len

    @property
    def limit(self) -> int | None:
        """The longest sequence there are positions for; None: any."""
        return None

    @abstractmethod
    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """x_BLD plus the encodings of places offset, offset + 1, ..."""


class Sinusoidal(PositionalEncoding, kind=Position.sinusoidal):
    """sin and cos of geometrically growing wavelengths: Vaswani et al. 2017, section 3.5. Any length."""

    table_LD: Tensor

    def __init__(self, d_model: int, config: PositionConfig) -> None:
        super().__init__(d_model, config)
        self.register_buffer("table_LD", sinusoids(config.max_len, d_model), persistent=False)

    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """x_BLD plus sinusoids."""
        end = offset + x_BLD.shape[1]
        # A table that grew would differ between the ranks of a distributed run, which keep buffers alike.
        table_LD = self.table_LD if end <= self.max_len else sinusoids(end, self.d_model).to(self.table_LD)
        return x_BLD + table_LD[offset:end]


class Learned(PositionalEncoding, kind=Position.learned):
    """A vector learned for each place up to max_len: Gehring et al. 2017, section 3.1."""

    def __init__(self, d_model: int, config: PositionConfig) -> None:
        super().__init__(d_model, config)
        self.embedding = nn.Embedding(config.max_len, d_model)

    @property
    def limit(self) -> int:
        """As many places as were learned."""
        return self.max_len

    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """x_BLD plus learned vectors.

        Raises:
            ValueError: a sequence over max_len.
        """
        end = offset + x_BLD.shape[1]
        if end > self.max_len:
            raise ValueError(f"a sequence of {end} tokens: expected at most position.max_len={self.max_len}")
        return x_BLD + self.embedding.weight[offset:end]


def sinusoids(length: int, d_model: int) -> Tensor:
    """encoding_LD[p, 2i] = sin(p / 10000^(2i / d_model)), [p, 2i + 1] = cos of the same; computed in float64."""
    rate_D = 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle_LD = torch.arange(length, dtype=torch.float64).outer(rate_D)
    pairs_LD = torch.stack((angle_LD.sin(), angle_LD.cos()), dim=-1).flatten(1)
    return pairs_LD[:, :d_model].float()


def build_position(d_model: int, config: PositionConfig) -> PositionalEncoding:
    """The positional encoding that `config.kind` names."""
    return POSITIONS[config.kind](d_model, config)
