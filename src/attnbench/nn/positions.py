"""Positions: how a model that sees a set knows the order of its input, in embeddings or inside self-attention."""

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
    """Adds to each embedding where it stands; a subclass joins the registry by naming its Position."""

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


class Nowhere(PositionalEncoding, kind=Position.none):
    """Adds nothing: the ablation; and what embeddings get where self-attention itself knows positions."""

    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """x_BLD."""
        return x_BLD


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


class Layout(NamedTuple):
    """Where the tokens of a self-attention stand: in a line, or on a grid; `leading` ones before it stand nowhere."""

    grid: Grid | None = None
    leading: int = 0

    @property
    def axes(self) -> int:
        """How many numbers tell a place."""
        return 1 if self.grid is None else 2

    def places(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """places_LA of `length` tokens, and placed_L: False for those that stand nowhere (and are at 0)."""
        index_L = torch.arange(length, device=device) - self.leading
        placed_L = index_L >= 0
        index_L = index_L.clamp(min=0)
        columns = 1 if self.grid is None else self.grid[1]
        line_LA = index_L.unsqueeze(1)
        return line_LA if self.grid is None else torch.cat((line_LA // columns, line_LA % columns), dim=1), placed_L

    def offsets(self, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """offset_QKA from a query's place to a key's, and placed_QK, where both have one.

        The queries are the last of the keys' places, as in nn/attention.py.
        """
        places_KA, placed_K = self.places(keys, device)
        first = keys - queries
        return places_KA - places_KA[first:, None], placed_K & placed_K[first:, None]


class RelativePosition(nn.Module):
    """How self-attention knows where two tokens stand to each other; a subclass joins the registry of positions."""

    needs_weights: ClassVar[bool] = False  # whether `values` knows an answer

    def __init_subclass__(cls, kind: Position) -> None:
        super().__init_subclass__()
        POSITIONS[kind] = cls

    def __init__(self, num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def turn(self, x_BHLD: Tensor, offset: int = 0) -> Tensor:
        """Queries or keys of places offset, offset + 1, ... as they are to be compared."""
        return x_BHLD

    def bias(self, q_BHQD: Tensor, keys: int) -> Tensor | None:
        """What to add to the scores, broadcastable to BHQK; the queries are the last of `keys` places."""
        return None

    def values(self, weights_BHQK: Tensor) -> Tensor | None:
        """What to add to the context_BHQD that these weights lead to."""
        return None


class Relative(RelativePosition, kind=Position.relative):
    """Keys and values learned for each clipped distance, one set a layer: Shaw et al. 2018, equations 3 and 4.

    The keys' part, q.a / sqrt(d_k), joins whatever score there is. On a grid, rows and columns each have their
    vectors, which add up: Bello et al. 2019, equation 2.
    """

    needs_weights = True

    def __init__(self, num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: Layout) -> None:
        super().__init__(num_heads, d_k, d_v, config, layout)
        self.max_distance, self.scale = config.max_distance, d_k**-0.5
        rows = layout.axes * (2 * config.max_distance + 1)
        self.key, self.value = nn.Embedding(rows, d_k), nn.Embedding(rows, d_v)

    def bias(self, q_BHQD: Tensor, keys: int) -> Tensor:
        """The scores of queries with the distances' own keys: computed once a distance, then looked up for each key."""
        scores_BHQR = (q_BHQD * self.scale) @ self.key.weight.T.to(q_BHQD.dtype)
        rows_QKA, placed_QK = self._rows(q_BHQD.shape[2], keys, q_BHQD.device)
        bias_BHQK = sum(_along(scores_BHQR, rows_QK) for rows_QK in rows_QKA.unbind(2))
        return bias_BHQK * placed_QK

    def values(self, weights_BHQK: Tensor) -> Tensor:
        """The distances' own values: weights are summed over the keys of a distance first."""
        rows_QKA, placed_QK = self._rows(weights_BHQK.shape[2], weights_BHQK.shape[3], weights_BHQK.device)
        weights_BHQK = weights_BHQK * placed_QK
        sums_BHQR = weights_BHQK.new_zeros(*weights_BHQK.shape[:3], len(self.value.weight))
        for rows_QK in rows_QKA.unbind(2):
            sums_BHQR = sums_BHQR.scatter_add(-1, rows_QK.expand_as(weights_BHQK), weights_BHQK)
        return sums_BHQR @ self.value.weight.to(weights_BHQK.dtype)

    def _rows(self, queries: int, keys: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """rows_QKA, the row of the tables that holds each distance, and placed_QK."""
        offset_QKA, placed_QK = self.layout.offsets(queries, keys, device)
        rows_QKA = offset_QKA.clamp(-self.max_distance, self.max_distance) + self.max_distance
        return rows_QKA + (2 * self.max_distance + 1) * torch.arange(self.layout.axes, device=device), placed_QK


def _along(scores_BHQR: Tensor, rows_QK: Tensor) -> Tensor:
    """scores_BHQK: of each query's row of R numbers, those that stand at `rows_QK`."""
    return scores_BHQR.gather(-1, rows_QK.expand(*scores_BHQR.shape[:3], -1))


class Rotary(RelativePosition, kind=Position.rotary):
    """Pairs of coordinates turned by an angle that grows with the place: Su et al. 2021, equations 15 and 34.

    q.k then depends on the distance alone. On a grid half of the coordinates turn with the row and half with the
    column: Heo et al. 2024.
    """

    def __init__(self, num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: Layout) -> None:
        super().__init__(num_heads, d_k, d_v, config, layout)
        self.d_axis, self.base = d_k // layout.axes, config.base
        if d_k % (2 * layout.axes):
            raise ValueError(f"position=rotary: keys of width {d_k}; expected a multiple of {2 * layout.axes}")

    def turn(self, x_BHLD: Tensor, offset: int = 0) -> Tensor:
        """x, each pair of coordinates turned; in float32 at least, since angles are large."""
        angle_LP = self._angles(offset + x_BHLD.shape[2], x_BHLD.device)[offset:]
        exact = torch.promote_types(x_BHLD.dtype, torch.float32)
        cos_LP, sin_LP = angle_LP.cos().to(exact), angle_LP.sin().to(exact)
        even_BHLP, odd_BHLP = x_BHLD[..., 0::2], x_BHLD[..., 1::2]
        turned = (even_BHLP * cos_LP - odd_BHLP * sin_LP, even_BHLP * sin_LP + odd_BHLP * cos_LP)
        return torch.stack(turned, dim=-1).flatten(-2).to(x_BHLD.dtype)

    def _angles(self, length: int, device: torch.device) -> Tensor:
        """angle_LP of each pair of coordinates, those of the first axis first."""
        places_LA, _ = self.layout.places(length, device)
        rate_P = self.base ** (-torch.arange(0, self.d_axis, 2, dtype=torch.float64, device=device) / self.d_axis)
        return (places_LA.double().unsqueeze(2) * rate_P).flatten(1)


class Alibi(RelativePosition, kind=Position.alibi):
    """A penalty that grows with distance, each head with a slope of its own: Press et al. 2022, section 3.

    It looks the same to both sides. On a grid the distance is Euclid's: Fuller et al. 2023 (CROMA).
    """

    slope_H: Tensor

    def __init__(self, num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: Layout) -> None:
        super().__init__(num_heads, d_k, d_v, config, layout)
        self.register_buffer("slope_H", alibi_slopes(num_heads), persistent=False)

    def bias(self, q_BHQD: Tensor, keys: int) -> Tensor:
        """bias_HQK = -slope x distance."""
        offset_QKA, placed_QK = self.layout.offsets(q_BHQD.shape[2], keys, q_BHQD.device)
        distance_QK = torch.linalg.vector_norm(offset_QKA.to(self.slope_H.dtype), dim=2) * placed_QK
        bias_HQK: Tensor = -self.slope_H[:, None, None] * distance_QK
        return bias_HQK.to(q_BHQD.dtype)


def alibi_slopes(num_heads: int) -> Tensor:
    """slope_H: a geometric sequence from 2^(-8/H); where H is no power of two, filled up from that of 2H between."""
    power = 2 ** math.floor(math.log2(num_heads))
    exponents = [8 * (head + 1) / power for head in range(power)]
    exponents += [4 * (2 * head + 1) / power for head in range(num_heads - power)]
    return torch.tensor([2.0**-exponent for exponent in exponents])


def build_position(d_model: int, config: PositionConfig, grid: Grid | None = None) -> PositionalEncoding:
    """What `config.kind` adds to embeddings, of a sequence, or of a grid walked row by row."""
    kind = POSITIONS[config.kind]
    return kind(d_model, config, grid) if issubclass(kind, PositionalEncoding) else Nowhere(d_model, config, grid)


def build_relative(
    num_heads: int, d_k: int, d_v: int, config: PositionConfig, layout: Layout
) -> RelativePosition | None:
    """What `config.kind` does inside a self-attention of such heads; None: nothing."""
    kind = POSITIONS[config.kind]
    return kind(num_heads, d_k, d_v, config, layout) if issubclass(kind, RelativePosition) else None
