"""Positional encodings: how a model that sees a set knows the order of its input."""

# Shapes: B batch, L length, D d_model

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from attnbench.config.position import Position, PositionConfig

Grid = tuple[int, int]  # rows, columns

POSITIONS: dict[Position, type[PositionalEncoding]] = {}


class PositionalEncoding(nn.Module, ABC):
    """Adds to each vector where it stands; a subclass joins the registry by naming its Position."""

    def __init_subclass__(cls, kind: Position) -> None:
        super().__init_subclass__()
        POSITIONS[kind] = cls

    def __init__(self, d_model: int, config: PositionConfig, grid: Grid | None = None) -> None:
        super().__init__()
        self.d_model, self.grid = d_model, grid
        self.max_len = config.max_len if grid is None else grid[0] * grid[1]

    @property
    def limit(self) -> int | None:
        """The longest sequence there are positions for; None: any."""
        return None

    @abstractmethod
    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """x_BLD plus the encodings of places offset, offset + 1, ..."""


class Sinusoidal(PositionalEncoding, kind=Position.sinusoidal):
    """sin and cos of geometrically growing wavelengths: Vaswani et al. 2017, section 3.5. Any length.

    On a grid half of the vector is of the row and half of the column: He et al. 2022 (MAE), appendix A.1.
    """

    table_LD: Tensor

    def __init__(self, d_model: int, config: PositionConfig, grid: Grid | None = None) -> None:
        super().__init__(d_model, config, grid)
        table_LD = sinusoids(self.max_len, d_model) if grid is None else grid_sinusoids(*grid, d_model)
        self.register_buffer("table_LD", table_LD, persistent=False)

    @property
    def limit(self) -> int | None:
        """A grid ends; a sequence need not."""
        return None if self.grid is None else self.max_len

    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """x_BLD plus sinusoids."""
        end = offset + x_BLD.shape[1]
        # A table that grew would differ between the ranks of a distributed run, which keep buffers alike.
        table_LD = self.table_LD if end <= self.max_len else sinusoids(end, self.d_model).to(self.table_LD)
        return x_BLD + table_LD[offset:end]


class Learned(PositionalEncoding, kind=Position.learned):
    """A vector learned for each place, up to max_len or on the grid: Gehring et al. 2017, section 3.1."""

    def __init__(self, d_model: int, config: PositionConfig, grid: Grid | None = None) -> None:
        super().__init__(d_model, config, grid)
        self.embedding = nn.Embedding(self.max_len, d_model)

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


def grid_sinusoids(rows: int, columns: int, d_model: int) -> Tensor:
    """encoding_LD of the places of a grid, row by row: sinusoids of the row, and behind them of the column.

    Raises:
        ValueError: d_model is no multiple of 4.
    """
    if d_model % 4:
        raise ValueError(f"d_model={d_model}: expected a multiple of 4 for a sine and cosine of row and of column")
    row_LD = sinusoids(rows, d_model // 2).repeat_interleave(columns, dim=0)
    column_LD = sinusoids(columns, d_model // 2).repeat(rows, 1)
    return torch.cat((row_LD, column_LD), dim=1)


def build_position(d_model: int, config: PositionConfig, grid: Grid | None = None) -> PositionalEncoding:
    """The positional encoding that `config.kind` names, of a sequence, or of a grid walked row by row."""
    return POSITIONS[config.kind](d_model, config, grid)
