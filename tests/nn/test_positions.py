from __future__ import annotations

import math

import pytest
import torch

from attnbench.config.position import Position, PositionConfig
from attnbench.nn.positions import POSITIONS, Grid, PositionalEncoding, build_position


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


@pytest.mark.parametrize("kind", Position)
def test_is_added_and_knows_its_offset(kind: Position) -> None:
    position, x = build(kind), torch.randn(2, 7, 6)
    whole = position(x)
    assert not whole.allclose(x)
    torch.testing.assert_close(whole - x, (whole - x)[:1].expand(2, -1, -1))
    torch.testing.assert_close(position(x[:, 3:5], offset=3), whole[:, 3:5])


@pytest.mark.parametrize("kind", Position)
def test_tells_places_apart(kind: Position) -> None:
    encodings = build(kind)(torch.zeros(1, 8, 6))[0]
    assert torch.cdist(encodings, encodings).fill_diagonal_(1).min() > 0.01


@pytest.mark.parametrize("kind", Position)
def test_every_parameter_gets_a_gradient(kind: Position) -> None:
    position = build(kind)
    position(torch.zeros(1, 8, 6, requires_grad=True)).square().sum().backward()
    for parameter in position.parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).any(1).all()


@pytest.mark.parametrize("kind", Position)
def test_a_grid_has_a_place_for_each_row_and_column(kind: Position) -> None:
    position = build(kind, 8, max_len=3, grid=(4, 5))
    assert position.limit == 20
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
    assert build(Position.learned).limit == 8
    assert build(Position.sinusoidal).limit is None


def test_sinusoids_are_not_in_a_checkpoint() -> None:
    assert not build(Position.sinusoidal).state_dict()
