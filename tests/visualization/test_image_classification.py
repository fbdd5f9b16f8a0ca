"""Pictures of image classification show what they are given, whatever its shape, and say where it does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnbench.tasks.results import Figure
from attnbench.visualization.canvas import Canvas
from attnbench.visualization.image_classification import (
    AttentionOverview,
    ConfusionMatrix,
    PatchAttention,
    PositionSimilarity,
    compute_rollout,
)

PNG = b"\x89PNG\r\n\x1a\n"


def attention(
    *, shape: tuple[int, ...] = (12, 12, 1), grid: tuple[int, int] = (3, 3), layers: int = 2, heads: int = 2
) -> PatchAttention:
    """An example that was classified rightly."""
    random, patches = np.random.default_rng(0), grid[0] * grid[1]
    weights_LHTT = random.dirichlet(np.ones(patches + 1), size=(layers, heads, patches + 1))
    rollout_P = compute_rollout(weights_LHTT)[0, 1:]
    return PatchAttention("x-0", random.random(shape), weights_LHTT[:, :, 0, 1:], rollout_P, grid, "cat", "cat", 0.9)


def confusion(classes: list[str]) -> ConfusionMatrix:
    counts_KK = np.random.default_rng(0).integers(0, 3, (len(classes), len(classes))) + 20 * np.eye(
        len(classes), dtype=int
    )
    return ConfusionMatrix("confusion", counts_KK, classes)


def similarity(rows: int, columns: int) -> PositionSimilarity:
    vectors_PD = np.random.default_rng(0).normal(size=(rows * columns, 4))
    vectors_PD /= np.linalg.norm(vectors_PD, axis=1, keepdims=True)
    return PositionSimilarity("positions", vectors_PD @ vectors_PD.T, (rows, columns))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is written on pages, each with its color."""
    found: list[tuple[str, str]] = []
    original = Canvas.draw_text

    def text(self: Canvas, words: str, *args: Any, **style: Any) -> None:
        found.append((words, style.get("color", "black")))
        original(self, words, *args, **style)

    monkeypatch.setattr(Canvas, "draw_text", text)
    return found


PICTURES: dict[str, Callable[[], Figure]] = {
    "gray": attention,
    "color": lambda: attention(shape=(12, 12, 3)),
    "high": lambda: attention(shape=(20, 10, 3), grid=(4, 2)),
    "grid that does not divide": lambda: attention(shape=(11, 13, 1), grid=(3, 4)),
    "one layer, one head, one patch": lambda: attention(grid=(1, 1), layers=1, heads=1),
    "attends to itself alone": lambda: replace(attention(), weights_LHP=np.zeros((1, 1, 9)), rollout_P=np.zeros(9)),
    "half precision, out of range": lambda: replace(
        attention(), pixels_HWC=np.full((6, 6, 1), 1.5, np.float32), weights_LHP=np.full((1, 1, 9), 0.1, np.float16)
    ),
    "long names": lambda: replace(attention(), label="a $ or $^ " * 12, predicted="w" * 80),
    "overview": lambda: AttentionOverview("overview", [attention(), replace(attention(), predicted="dog")]),
    "positions": lambda: similarity(3, 3),
    "positions, broad": lambda: similarity(2, 5),
    "positions, many": lambda: similarity(24, 3),
    "one position": lambda: similarity(1, 1),
    "one class": lambda: confusion(["everything"]),
    "two classes": lambda: confusion(["$", "$^"]),
    "long class names": lambda: confusion([f"{'very ' * 12}long {number}" for number in range(13)]),
    "many classes": lambda: confusion([str(number) for number in range(130)]),
    "nothing classified": lambda: ConfusionMatrix("confusion", np.zeros((3, 3), int), ["a", "b", "c"]),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_picture_draws_and_its_arrays_come_back(tmp_path: Path, kind: str) -> None:
    picture = PICTURES[kind]()
    picture.save(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)
    np.savez(tmp_path / "arrays.npz", allow_pickle=False, **picture.to_arrays())
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as arrays:
        assert arrays.keys() == picture.to_arrays().keys()
        for key, array in picture.to_arrays().items():
            np.testing.assert_array_equal(arrays[key], array)


def test_what_the_arrays_are_called() -> None:
    one = attention()
    assert one.to_arrays().keys() == {"pixels", "weights", "rollout", "grid", "label", "predicted", "confidence"}
    assert str(one.to_arrays()["label"]) == "cat"
    assert AttentionOverview("overview", [one]).to_arrays() == {}
    assert similarity(2, 2).to_arrays().keys() == {"similarity", "grid"}
    assert confusion(["a", "bc"]).to_arrays()["classes"].tolist() == ["a", "bc"]


@pytest.mark.parametrize("overview", [False, True])
def test_a_right_answer_is_named_and_a_wrong_one_is_told_in_words(
    tmp_path: Path, said: list[tuple[str, str]], overview: bool
) -> None:
    right = attention()
    wrong = replace(right, label="shirt", predicted="coat", confidence=0.618)
    for picture in [AttentionOverview("overview", [right, wrong])] if overview else [right, wrong]:
        picture.save(tmp_path / "picture.png")
    words = {" ".join(text.split()): color for text, color in said}
    assert words["cat"] == "black"
    assert words["shirt, taken for coat (0.62)"] != "black"


def test_every_tile_says_its_maximum(tmp_path: Path, said: list[tuple[str, str]]) -> None:
    weights_LHP = np.zeros((2, 2, 9))
    weights_LHP[..., 4] = [[0.5, 0.25], [1.0, 0.0125]]
    replace(attention(), weights_LHP=weights_LHP).save(tmp_path / "picture.png")
    words = [text for text, _ in said]
    assert {"0.50", "0.25", "1.0", "0.013"} <= set(words)
    assert {"head 1", "head 2", "layer 1", "layer 2", "rollout"} <= set(words)


@pytest.mark.parametrize(
    ("count", "expected"), [(2, {"99.7%\n997", "0.3%\n3"}), (13, {"100%", "<1%"}), (31, set())], ids=["2", "13", "31"]
)
def test_numbers_stand_in_the_cells_that_have_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, expected: set[str]
) -> None:
    written: list[str] = []
    monkeypatch.setattr("matplotlib.axes.Axes.text", lambda self, x, y, words, **style: written.append(words))
    counts_KK = 997 * np.eye(count, dtype=int) + 3 * np.eye(count, k=1, dtype=int)
    counts_KK[-1] = 0  # a class that never comes
    ConfusionMatrix("confusion", counts_KK, [str(number) for number in range(count)]).save(tmp_path / "picture.png")
    assert set(written) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_heat_is_flat_on_a_patch_brightest_where_attended_and_scaled_to_its_maximum(channels: int) -> None:
    one = attention(shape=(10, 15, channels), grid=(2, 3))
    one = replace(one, pixels_HWC=np.full((10, 15, channels), 0.4))
    weights_P = np.array([0.0, 0.1, 0.2, 0.3, 0.05, 0.6])
    heat_HW3 = one.compute_heatmap(weights_P).astype(int)
    tiles_RHCW3 = heat_HW3.reshape(2, 5, 3, 5, 3)
    np.testing.assert_array_equal(tiles_RHCW3, tiles_RHCW3[:, :1, :, :1].repeat(5, 1).repeat(5, 3))
    light_P = tiles_RHCW3[:, 0, :, 0].sum(-1).ravel()
    assert light_P.argmax() == weights_P.argmax()
    np.testing.assert_array_equal(heat_HW3, one.compute_heatmap(weights_P / 3))
    assert one.get_rgb_pixels().tolist() == np.full((10, 15, 3), 102).tolist()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: replace(attention(), weights_LHP=np.ones((2, 2, 8))),
            "x-0: weights of shape (2, 2, 8), expected (2, 2, 9) for 3 x 3 patches",
        ),
        (
            lambda: replace(attention(), weights_LHP=np.ones((2, 9))),
            "x-0: weights of shape (2, 9), expected (2, 9, 9) for 3 x 3 patches",
        ),
        (
            lambda: replace(attention(), rollout_P=np.ones(10)),
            "x-0: rollout of shape (10,), expected (9,) for 3 x 3 patches",
        ),
        (
            lambda: replace(attention(), pixels_HWC=np.ones((12, 12))),
            "x-0: pixels of shape (12, 12), expected height x width x 1 or 3",
        ),
        (
            lambda: PositionSimilarity("positions", np.ones((9, 9)), (2, 4)),
            "positions: similarity of shape (9, 9), expected (8, 8) for 2 x 4 patches",
        ),
        (
            lambda: ConfusionMatrix("confusion", np.ones((2, 3)), ["a", "b"]),
            "confusion: counts of shape (2, 3), expected (2, 2) for 2 classes",
        ),
        (
            lambda: AttentionOverview("overview", [attention(layers=1), attention(layers=2)]),
            "overview: pictures of 2 shapes and depths, expected one of both",
        ),
        (lambda: AttentionOverview("overview", []), "overview: pictures of 0 shapes and depths, expected one of both"),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_a_sentence(make: Callable[[], Figure], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        make()


def naive_rollout(weights_LHTT: np.ndarray) -> np.ndarray:
    layers, heads, tokens, _ = weights_LHTT.shape
    found = [[float(i == j) for j in range(tokens)] for i in range(tokens)]
    for layer in range(layers):
        mixed = [
            [sum(weights_LHTT[layer, h, i, j] for h in range(heads)) / heads for j in range(tokens)]
            for i in range(tokens)
        ]
        mixed = [[0.5 * mixed[i][j] + 0.5 * (i == j) for j in range(tokens)] for i in range(tokens)]
        mixed = [[value / sum(row) for value in row] for row in mixed]
        found = [[sum(mixed[i][k] * found[k][j] for k in range(tokens)) for j in range(tokens)] for i in range(tokens)]
    return np.array(found)


@pytest.mark.parametrize(("layers", "heads", "tokens"), [(1, 1, 1), (1, 3, 4), (4, 2, 5)])
def test_rollout_is_that_of_a_naive_loop(layers: int, heads: int, tokens: int) -> None:
    weights_LHTT = np.random.default_rng(1).random((layers, heads, tokens, tokens)) ** 4  # rows that do not sum to one
    found_TT = compute_rollout(weights_LHTT)
    np.testing.assert_allclose(found_TT, naive_rollout(weights_LHTT), rtol=1e-12)
    np.testing.assert_allclose(found_TT.sum(-1), 1, rtol=1e-12)


def test_rollout_of_layers_that_look_only_at_themselves_is_the_identity() -> None:
    np.testing.assert_array_equal(compute_rollout(np.broadcast_to(np.eye(4), (3, 2, 4, 4))), np.eye(4))


def test_rollout_goes_from_the_first_layer_up() -> None:
    """The first layer moves token 0 to token 1, the second token 1 to token 2: so 0 reaches 2, and 2 not 0."""
    weights_LHTT = np.broadcast_to(np.eye(3), (2, 1, 3, 3)).copy()
    weights_LHTT[0, 0, 1] = [1, 0, 0]
    weights_LHTT[1, 0, 2] = [0, 1, 0]
    found_TT = compute_rollout(weights_LHTT)
    assert found_TT[2].tolist() == [0.25, 0.25, 0.5]
    assert compute_rollout(weights_LHTT[::-1])[2, 0] == 0
