from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attnbench.config.attention import AttentionConfig, Backend
from attnbench.config.model import BlocksConfig
from attnbench.config.position import Position, PositionConfig
from attnbench.nn.attention import MultiHeadAttention
from attnbench.nn.positions import (
    POSITIONS,
    Grid,
    PositionalEncoding,
    RelativePosition,
    TokenLayout,
    build_position,
    build_relative_position,
    compute_alibi_slopes,
)

ADDED = [kind for kind in Position if issubclass(POSITIONS[kind], PositionalEncoding) and kind is not Position.none]
RELATIVE = [kind for kind in Position if issubclass(POSITIONS[kind], RelativePosition)]
LINE = TokenLayout()
LAYOUTS = {"line": LINE, "grid": TokenLayout((2, 3)), "grid behind a token": TokenLayout((2, 3), num_leading=1)}


def build(kind: Position, d_model: int = 6, max_len: int = 8, grid: Grid | None = None) -> PositionalEncoding:
    return build_position(d_model, PositionConfig(kind=kind, max_len=max_len), grid)


def test_every_position_has_a_class() -> None:
    assert set(POSITIONS) == set(Position)


@pytest.mark.parametrize("d_model", [6, 7])
@pytest.mark.parametrize("length", [5, 20])
def test_sinusoids_are_the_papers(d_model: int, length: int) -> None:
    found = build(Position.sinusoidal, d_model)(torch.zeros(1, length, d_model))[0]
    for place in range(length):
        for i in range(d_model):
            angle = place / 10000 ** ((i - i % 2) / d_model)
            wanted = math.cos(angle) if i % 2 else math.sin(angle)
            assert found[place, i].item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("kind", ADDED)
def test_is_added_and_knows_its_offset(kind: Position) -> None:
    position, x = build(kind), torch.randn(2, 7, 6)
    whole = position(x)
    assert not whole.allclose(x)
    torch.testing.assert_close(whole - x, (whole - x)[:1].expand(2, -1, -1))
    torch.testing.assert_close(position(x[:, 3:5], offset=3), whole[:, 3:5])


@pytest.mark.parametrize("kind", ADDED)
def test_tells_places_apart(kind: Position) -> None:
    encodings = build(kind)(torch.zeros(1, 8, 6))[0]
    assert torch.cdist(encodings, encodings).fill_diagonal_(1).min() > 0.01


@pytest.mark.parametrize("kind", ADDED)
def test_every_parameter_gets_a_gradient(kind: Position) -> None:
    position = build(kind)
    position(torch.zeros(1, 8, 6, requires_grad=True)).square().sum().backward()
    for parameter in position.parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).any(1).all()


@pytest.mark.parametrize("kind", ADDED)
def test_a_grid_has_a_place_for_each_row_and_column(kind: Position) -> None:
    position = build(kind, 8, max_len=3, grid=(4, 5))
    assert position.max_length == 20
    encodings = position(torch.zeros(1, 20, 8))[0]
    assert torch.cdist(encodings, encodings).fill_diagonal_(1).min() > 0.01


def test_a_grids_sinusoids_are_of_the_row_and_of_the_column() -> None:
    rows, columns, d_model = 3, 4, 8
    found = build(Position.sinusoidal, d_model, grid=(rows, columns))(torch.zeros(1, rows * columns, d_model))[0]
    line = build(Position.sinusoidal, d_model // 2)(torch.zeros(1, 8, d_model // 2))[0]
    for row in range(rows):
        for column in range(columns):
            wanted = torch.cat((line[row], line[column]))
            torch.testing.assert_close(found[row * columns + column], wanted)


def test_a_grid_needs_a_sine_and_a_cosine_of_both() -> None:
    with pytest.raises(ValueError, match="d_model=6: expected a multiple of 4"):
        build(Position.sinusoidal, 6, grid=(2, 2))


@pytest.mark.parametrize(("length", "offset"), [(9, 0), (1, 8)])
def test_learned_refuses_what_it_has_no_place_for(length: int, offset: int) -> None:
    with pytest.raises(ValueError, match=r"a sequence of 9 tokens: expected at most position.max_len=8"):
        build(Position.learned)(torch.zeros(1, length, 6), offset)


def test_limits() -> None:
    assert build(Position.learned).max_length == 8
    assert build(Position.sinusoidal).max_length is None


def test_sinusoids_are_not_in_a_checkpoint() -> None:
    assert not build(Position.sinusoidal).state_dict()


@pytest.mark.parametrize("kind", [Position.none, *RELATIVE])
def test_what_acts_inside_attention_adds_nothing_to_embeddings(kind: Position) -> None:
    x = torch.randn(2, 7, 6)
    assert build(kind)(x) is x
    assert build(kind).max_length is None


@pytest.mark.parametrize("kind", [Position.none, *ADDED])
def test_what_is_added_does_nothing_inside_attention(kind: Position) -> None:
    assert build_relative_position(2, 4, 4, PositionConfig(kind=kind), TokenLayout()) is None


def relative(kind: Position, layout: TokenLayout = LINE) -> RelativePosition:
    torch.manual_seed(0)
    position = build_relative_position(2, 8, 4, PositionConfig(kind=kind, max_distance=2), layout)
    assert position is not None
    return position.double()


def self_attention(kind: Position, layout: TokenLayout = LINE, backend: Backend = Backend.auto) -> MultiHeadAttention:
    position = relative(kind, layout)
    torch.manual_seed(1)
    model = BlocksConfig(d_model=6, num_heads=2, d_k=8, d_v=4)
    return MultiHeadAttention(model, AttentionConfig(backend=backend), 1.0, position).double()


def turned(x: Tensor, places: list[float], base: float = 10000.0) -> Tensor:
    """Each pair of coordinates of one vector as a complex number, times e^(i place rate); an axis after the other."""
    width = len(x) // len(places)
    parts = []
    for axis, place in enumerate(places):
        pairs = torch.view_as_complex(x[axis * width : (axis + 1) * width].reshape(-1, 2).contiguous())
        rates = torch.tensor([base ** (-2 * i / width) for i in range(width // 2)], dtype=torch.double)
        parts.append(torch.view_as_real(pairs * torch.polar(torch.ones_like(rates), place * rates)).flatten())
    return torch.cat(parts)


def by_hand(position: RelativePosition, q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout) -> Tensor:
    """Self-attention of one sentence, one head and query at a time, with each kind's own formula."""
    parameters, kind = dict(position.named_parameters()), next(n for n, c in POSITIONS.items() if c is type(position))
    places, context = (
        [list(map(float, row)) for row in layout.compute_positions(q.shape[1], q.device)[0]],
        torch.zeros_like(v),
    )
    placed = [i >= layout.num_leading for i in range(q.shape[1])]
    for h, i in torch.cartesian_prod(torch.arange(len(q)), torch.arange(q.shape[1])).tolist():
        scores, extra = [], []
        for j in range(q.shape[1]):
            apart, both = [b - a for a, b in zip(places[i], places[j], strict=True)], placed[i] and placed[j]
            own_key, own_value, bias = torch.zeros_like(q[h, i]), torch.zeros_like(v[h, i]), 0.0
            query, key = q[h, i], k[h, j]
            match kind:
                case Position.relative:
                    rows = [int(max(-2, min(2, d))) + 2 + 5 * axis for axis, d in enumerate(apart)]
                    own_key = parameters["key.weight"][rows].sum(0) * both
                    own_value = parameters["value.weight"][rows].sum(0) * both
                case Position.rotary:
                    query, key = turned(query, places[i]), turned(key, places[j])
                case Position.alibi:
                    bias = -(2.0 ** (-8 * (h + 1) / len(q))) * math.hypot(*apart) * both
                case _:
                    raise AssertionError("write down the formula of a new position here")
            scores.append(query @ (key + own_key) / 8**0.5 + bias)
            extra.append(v[h, j] + own_value)
        context[h, i] = torch.stack(scores).softmax(0) @ torch.stack(extra)
    return context


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", RELATIVE)
def test_self_attention_is_its_formula(kind: Position, layout: TokenLayout, backend: Backend) -> None:
    module, length = self_attention(kind, layout, backend), 6 + layout.num_leading
    x = torch.randn(1, length, 6, dtype=torch.double)
    q, k, v = (part.view(length, 2, -1).transpose(0, 1) for part in module.qkv.split(x[0], 0, 3))
    position = module.attention.position
    assert position is not None
    wanted = module.output_projection(by_hand(position, q, k, v, layout).transpose(0, 1).flatten(1))
    torch.testing.assert_close(module(x).context[0], wanted)


@pytest.mark.parametrize("kind", RELATIVE)
def test_where_a_sentence_stands_does_not_matter(kind: Position) -> None:
    """Causal self-attention of the last places sees only how far the others are: with more before, masked, it is the
    same."""
    module, x = self_attention(kind), torch.randn(2, 9, 6, dtype=torch.double)
    mask = (torch.arange(9) >= 4).expand(2, 1, 1, 9)
    later = module(x, mask=mask, is_causal=True).context[:, 4:]
    torch.testing.assert_close(later, module(x[:, 4:], is_causal=True).context)


@pytest.mark.parametrize("kind", RELATIVE)
def test_steps_equal_the_whole_sequence(kind: Position) -> None:
    module, x_BJLM = self_attention(kind), torch.randn(2, 3, 5, 6, dtype=torch.double)
    whole = module(x_BJLM.flatten(0, 1), is_causal=True).context.view_as(x_BJLM)
    past = None
    for place in range(5):
        context, past = module.decode_step(x_BJLM[:, :, place], past)
        torch.testing.assert_close(context, whole[:, :, place])


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("kind", RELATIVE)
def test_a_sentence_of_padding_is_zero_forward_and_backward(kind: Position, backend: Backend) -> None:
    module, x = self_attention(kind, backend=backend), torch.randn(2, 4, 6, dtype=torch.double, requires_grad=True)
    mask = torch.tensor([True, False])[:, None, None, None].expand(2, 1, 1, 4)
    context = module(x, mask=mask).context - module.output_projection.bias
    context.square().sum().backward()
    assert (context[1] == 0).all()
    assert (context[0] != 0).any()
    for tensor in (x, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_clipped_distance_gets_a_gradient(layout: TokenLayout) -> None:
    module = self_attention(Position.relative, layout)
    module(torch.randn(2, 6 + layout.num_leading, 6, dtype=torch.double)).context.square().sum().backward()
    used = [-2, -1, 0, 1, 2] if layout.grid is None else [-1, 0, 1, 3, 4, 5, 6, 7]  # of two rows none is two apart
    for parameter in module.attention.position.parameters():
        assert parameter.grad is not None
        rows = torch.tensor(used) + 2
        assert (parameter.grad[rows] != 0).any(1).all()


def test_a_turn_keeps_lengths_and_a_product_knows_the_distance_alone() -> None:
    position = relative(Position.rotary)
    q, k = torch.randn(2, 1, 2, 1, 8, dtype=torch.double)
    torch.testing.assert_close(position.rotate(q, 7).norm(dim=-1), q.norm(dim=-1))
    near = (position.rotate(q, 2) * position.rotate(k, 5)).sum()
    torch.testing.assert_close((position.rotate(q, 1002) * position.rotate(k, 1005)).sum(), near)
    assert not near.allclose((position.rotate(q, 2) * position.rotate(k, 6)).sum())


def test_a_turn_needs_pairs() -> None:
    with pytest.raises(ValueError, match="position=rotary: keys of width 6; expected a multiple of 4"):
        build_relative_position(2, 6, 6, PositionConfig(kind=Position.rotary), TokenLayout((2, 2)))


def test_slopes_are_the_papers() -> None:
    torch.testing.assert_close(compute_alibi_slopes(8), torch.tensor([2.0**-i for i in range(1, 9)]))
    # For six heads: those of four, and of eight the first and third.
    wanted = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8, 2.0**-1, 2.0**-3])
    torch.testing.assert_close(compute_alibi_slopes(6), wanted)
