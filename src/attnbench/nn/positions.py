"""Positions: how a model knows the order of its input, by embeddings or inside self-attention."""

# Shapes: B batch, L length, D d_model or the width of a head, H heads, Q queries, K keys, A axes of the layout,
#         P pairs of coordinates, R distances there are vectors for, those of all axes

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from attnbench.config.position import Position, PositionConfig

Grid = tuple[int, int]  # rows, columns

POSITIONS: dict[Position, type[PositionalEncoding] | type[RelativePosition]] = {}


class PositionalEncoding(nn.Module, ABC):
    """Base class of encodings that are added to embeddings; a subclass registers by its `Position`."""

    def __init_subclass__(cls, kind: Position) -> None:
        super().__init_subclass__()
        POSITIONS[kind] = cls

    def __init__(self, d_model: int, config: PositionConfig, grid: Grid | None = None) -> None:
        super().__init__()
        self.d_model, self.grid = d_model, grid
        self.max_len = config.max_len if grid is None else grid[0] * grid[1]

    @property
    def max_length(self) -> int | None:
        """Length of the longest sequence that has positions: the number of cells on a grid; None: no limit."""
        return None if self.grid is None else self.max_len

    @abstractmethod
    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """Return x_BLD plus the encodings of positions offset, offset + 1, ...

        Args:
            x_BLD: embedded tokens.
            offset: position of the first token.
        """


class Sinusoidal(PositionalEncoding, kind=Position.sinusoidal):
    """Sine and cosine of geometrically growing wavelengths (Vaswani et al. 2017, section 3.5), for any length.

    On a grid, half of the vector encodes the row and half the column (He et al. 2022, MAE, appendix A.1).
    """

    table_LD: Tensor

    def __init__(self, d_model: int, config: PositionConfig, grid: Grid | None = None) -> None:
        super().__init__(d_model, config, grid)
        table_LD = compute_sinusoids(self.max_len, d_model) if grid is None else compute_grid_sinusoids(*grid, d_model)
        self.register_buffer("table_LD", table_LD, persistent=False)

    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """Return x_BLD plus sinusoids."""
        end = offset + x_BLD.shape[1]
        # A growing table would differ between the ranks of a distributed run, whose buffers must be equal.
        table_LD = self.table_LD if end <= self.max_len else compute_sinusoids(end, self.d_model).to(self.table_LD)
        return x_BLD + table_LD[offset:end]


class LearnedPosition(PositionalEncoding, kind=Position.learned):
    """Learned vector for each position, up to max_len or on the grid (Gehring et al. 2017, section 3.1)."""

    def __init__(self, d_model: int, config: PositionConfig, grid: Grid | None = None) -> None:
        super().__init__(d_model, config, grid)
        self.embedding = nn.Embedding(self.max_len, d_model)

    @property
    def max_length(self) -> int:
        """Number of learned positions."""
        return self.max_len

    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """Return x_BLD plus learned vectors.

        Raises:
            ValueError: if the sequence is longer than max_len.
        """
        end = offset + x_BLD.shape[1]
        if end > self.max_len:
            raise ValueError(f"a sequence of {end} tokens: expected at most position.max_len={self.max_len}")
        return x_BLD + self.embedding.weight[offset:end]


class NoPosition(PositionalEncoding, kind=Position.none):
    """No encoding: for ablations, and where self-attention itself uses relative positions."""

    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """Return x_BLD unchanged."""
        return x_BLD


def compute_sinusoids(length: int, d_model: int) -> Tensor:
    """Return encoding_LD, computed in float64: [p, 2i] = sin(p / 10000^(2i / d_model)), [p, 2i + 1] the cosine.

    Args:
        length: number of positions L.
        d_model: width D.
    """
    rate_D = 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle_LD = torch.arange(length, dtype=torch.float64).outer(rate_D)
    pairs_LD = torch.stack((angle_LD.sin(), angle_LD.cos()), dim=-1).flatten(1)
    return pairs_LD[:, :d_model].float()


def compute_grid_sinusoids(rows: int, columns: int, d_model: int) -> Tensor:
    """Return encoding_LD of a grid, row by row: sinusoids of the row, followed by sinusoids of the column.

    Args:
        rows: rows of the grid.
        columns: columns of the grid.
        d_model: width D, a multiple of 4.

    Raises:
        ValueError: if d_model is not a multiple of 4.
    """
    if d_model % 4:
        raise ValueError(f"d_model={d_model}: expected a multiple of 4 for a sine and cosine of row and of column")
    row_LD = compute_sinusoids(rows, d_model // 2).repeat_interleave(columns, dim=0)
    column_LD = compute_sinusoids(columns, d_model // 2).repeat(rows, 1)
    return torch.cat((row_LD, column_LD), dim=1)


class TokenLayout(NamedTuple):
    """Positions of the tokens in a self-attention.

    A sequence or a grid, after `num_leading` tokens without a position.
    """

    grid: Grid | None = None
    num_leading: int = 0

    @property
    def num_axes(self) -> int:
        """Number of coordinates of a position: 1 for a sequence, 2 for a grid."""
        return 1 if self.grid is None else 2

    def compute_positions(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Compute the positions of `length` tokens.

        Args:
            length: number of tokens.
            device: device of the result.

        Returns:
            places_LA, and placed_L, False for tokens without a position (whose coordinates are 0).
        """
        index_L = torch.arange(length, device=device) - self.num_leading
        placed_L = index_L >= 0
        index_L = index_L.clamp(min=0)
        columns = 1 if self.grid is None else self.grid[1]
        line_LA = index_L.unsqueeze(1)
        return line_LA if self.grid is None else torch.cat((line_LA // columns, line_LA % columns), dim=1), placed_L

    def compute_offsets(self, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Compute the offset from each query's position to each key's.

        Args:
            queries: number of queries, which are the last of the keys' positions.
            keys: number of keys.
            device: device of the result.

        Returns:
            offset_QKA, and placed_QK, True where both tokens have a position.
        """
        places_KA, placed_K = self.compute_positions(keys, device)
        first = keys - queries
        return places_KA - places_KA[first:, None], placed_K & placed_K[first:, None]


class RelativePosition(nn.Module):
    """Base class of positions that self-attention uses itself; a subclass registers by its `Position`."""

    needs_weights: ClassVar[bool] = False  # whether `compute_value_terms` is implemented

    def __init_subclass__(cls, kind: Position) -> None:
        super().__init_subclass__()
        POSITIONS[kind] = cls

    def __init__(self, num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: TokenLayout) -> None:
        super().__init__()
        self.layout = layout

    def rotate(self, x_BHLD: Tensor, offset: int = 0) -> Tensor:
        """Rotate queries or keys at positions offset, offset + 1, ...; the identity by default.

        Args:
            x_BHLD: queries or keys.
            offset: position of the first one.
        """
        return x_BHLD

    def compute_bias(self, q_BHQD: Tensor, keys: int) -> Tensor | None:
        """Compute what is added to the scores; None: nothing.

        Args:
            q_BHQD: queries, which are the last of the keys' positions.
            keys: number of keys.

        Returns:
            A bias that is broadcastable to BHQK.
        """
        return None

    def compute_value_terms(self, weights_BHQK: Tensor) -> Tensor | None:
        """Compute what is added to context_BHQD for these weights; None: nothing."""
        return None


class Relative(RelativePosition, kind=Position.relative):
    """Learned keys and values for each clipped distance, one set for each layer (Shaw et al. 2018, equations 3 and 4).

    The term of the keys, q.a / sqrt(d_k), is added to any scoring function. On a grid, rows and columns have separate
    vectors, which are added (Bello et al. 2019, equation 2).
    """

    needs_weights = True

    def __init__(self, num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: TokenLayout) -> None:
        super().__init__(num_heads, d_k, d_v, config, layout)
        self.max_distance, self.scale = config.max_distance, d_k**-0.5
        rows = layout.num_axes * (2 * config.max_distance + 1)
        self.key, self.value = nn.Embedding(rows, d_k), nn.Embedding(rows, d_v)

    def compute_bias(self, q_BHQD: Tensor, keys: int) -> Tensor:
        """Compute the scores of the queries with the key vector of each distance.

        Args:
            q_BHQD: queries, the last Q of the positions.
            keys: number of keys.
        """
        scores_BHQR = (q_BHQD * self.scale) @ self.key.weight.T.to(q_BHQD.dtype)
        rows_QKA, placed_QK = self._find_table_rows(q_BHQD.shape[2], keys, q_BHQD.device)
        bias_BHQK = sum(_gather_by_distance(scores_BHQR, rows_QK) for rows_QK in rows_QKA.unbind(2))
        return bias_BHQK * placed_QK

    def compute_value_terms(self, weights_BHQK: Tensor) -> Tensor:
        """Compute the sum of value vectors of the distances; weights of equal distance are summed first."""
        rows_QKA, placed_QK = self._find_table_rows(weights_BHQK.shape[2], weights_BHQK.shape[3], weights_BHQK.device)
        weights_BHQK = weights_BHQK * placed_QK
        sums_BHQR = weights_BHQK.new_zeros(*weights_BHQK.shape[:3], len(self.value.weight))
        for rows_QK in rows_QKA.unbind(2):
            sums_BHQR = sums_BHQR.scatter_add(-1, rows_QK.expand_as(weights_BHQK), weights_BHQK)
        return sums_BHQR @ self.value.weight.to(weights_BHQK.dtype)

    def _find_table_rows(self, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return rows_QKA, the table row of each distance, and placed_QK."""
        offset_QKA, placed_QK = self.layout.compute_offsets(queries, keys, device)
        rows_QKA = offset_QKA.clamp(-self.max_distance, self.max_distance) + self.max_distance
        return rows_QKA + (2 * self.max_distance + 1) * torch.arange(self.layout.num_axes, device=device), placed_QK


def _gather_by_distance(scores_BHQR: Tensor, rows_QK: Tensor) -> Tensor:
    """Return scores_BHQK, gathered from each query's row of R scores at `rows_QK`."""
    return scores_BHQR.gather(-1, rows_QK.expand(*scores_BHQR.shape[:3], -1))


class Rotary(RelativePosition, kind=Position.rotary):
    """Rotary embedding: pairs of coordinates rotated by angles that grow with the position.

    Source: Su et al. 2021, equations 15 and 34.

    q.k then depends only on the distance. On a grid, half of the coordinates rotate with the row and half with the
    column (Heo et al. 2024).
    """

    def __init__(self, num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: TokenLayout) -> None:
        super().__init__(num_heads, d_k, d_v, config, layout)
        self.d_axis, self.base = d_k // layout.num_axes, config.rope_theta
        if d_k % (2 * layout.num_axes):
            raise ValueError(f"position=rotary: keys of width {d_k}; expected a multiple of {2 * layout.num_axes}")

    def rotate(self, x_BHLD: Tensor, offset: int = 0) -> Tensor:
        """Return x with each pair of coordinates rotated; computed in float32 or float64, because angles are large.

        Args:
            x_BHLD: queries or keys.
            offset: position of the first one.
        """
        angle_LP = self._compute_angles(offset + x_BHLD.shape[2], x_BHLD.device)[offset:]
        exact = torch.promote_types(x_BHLD.dtype, torch.float32)
        cos_LP, sin_LP = angle_LP.cos().to(exact), angle_LP.sin().to(exact)
        even_BHLP, odd_BHLP = x_BHLD[..., 0::2], x_BHLD[..., 1::2]
        turned = (even_BHLP * cos_LP - odd_BHLP * sin_LP, even_BHLP * sin_LP + odd_BHLP * cos_LP)
        return torch.stack(turned, dim=-1).flatten(-2).to(x_BHLD.dtype)

    def _compute_angles(self, length: int, device: torch.device) -> Tensor:
        """Return angle_LP of each pair of coordinates, those of the first axis first."""
        places_LA, _ = self.layout.compute_positions(length, device)
        rate_P = self.base ** (-torch.arange(0, self.d_axis, 2, dtype=torch.float64, device=device) / self.d_axis)
        return (places_LA.double().unsqueeze(2) * rate_P).flatten(1)


class Alibi(RelativePosition, kind=Position.alibi):
    """ALiBi: a penalty that grows with distance, with a slope for each head (Press et al. 2022, section 3).

    The penalty is symmetric. On a grid, the distance is Euclidean (Fuller et al. 2023, CROMA).
    """

    slope_H: Tensor

    def __init__(self, num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: TokenLayout) -> None:
        super().__init__(num_heads, d_k, d_v, config, layout)
        self.register_buffer("slope_H", compute_alibi_slopes(num_heads), persistent=False)

    def compute_bias(self, q_BHQD: Tensor, keys: int) -> Tensor:
        """Return bias_HQK = -slope x distance.

        Args:
            q_BHQD: queries, the last Q of the positions.
            keys: number of keys.
        """
        offset_QKA, placed_QK = self.layout.compute_offsets(q_BHQD.shape[2], keys, q_BHQD.device)
        distance_QK = torch.linalg.vector_norm(offset_QKA.to(self.slope_H.dtype), dim=2) * placed_QK
        bias_HQK: Tensor = -self.slope_H[:, None, None] * distance_QK
        return bias_HQK.to(q_BHQD.dtype)


def compute_alibi_slopes(num_heads: int) -> Tensor:
    """Return slope_H, a geometric sequence from 2^(-8/H).

    If H is not a power of two, slopes of the next larger power of two fill the sequence, as in the authors' code.
    """
    power = 2 ** math.floor(math.log2(num_heads))
    exponents = [8 * (head + 1) / power for head in range(power)]
    exponents += [4 * (2 * head + 1) / power for head in range(num_heads - power)]
    return torch.tensor([2.0**-exponent for exponent in exponents])


def build_position(d_model: int, config: PositionConfig, grid: Grid | None = None) -> PositionalEncoding:
    """Build the encoding that `config.kind` adds to embeddings.

    Args:
        d_model: width of the embeddings.
        config: kind of position and its sizes.
        grid: rows and columns of patches, which are read row by row; None for a sequence.
    """
    kind = POSITIONS[config.kind]
    return kind(d_model, config, grid) if issubclass(kind, PositionalEncoding) else NoPosition(d_model, config, grid)


def build_relative_position(
    num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: TokenLayout
) -> RelativePosition | None:
    """Build the relative position that `config.kind` names; None if it is not a relative one.

    Args:
        num_heads: number of heads.
        d_k: width of a head's keys.
        d_v: width of a head's values.
        config: options of positions.
        layout: sequence or grid.
    """
    kind = POSITIONS[config.kind]
    return kind(num_heads, d_k, d_v, config, layout) if issubclass(kind, RelativePosition) else None
