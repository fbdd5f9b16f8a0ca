"""Drawn garments: the same for a seed, all different, all visible, and beyond what a linear model can tell apart."""

# Shapes: N pictures, H rows, W columns, P pixels of a picture, K classes

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from attnbench.data.synthetic_garments import CLASSES, draw_garments

Drawn = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

TRAIN = 4000  # of the 5,000 drawn below; the rest is the test set


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw_garments(5000, np.random.default_rng((0, 0)))


def logistic_regression(
    x_NP: npt.NDArray[np.float64], labels_N: npt.NDArray[np.int64], decay: float = 1e-3, steps: int = 60
) -> npt.NDArray[np.float64]:
    """weight_PK by Newton steps with a bound on the curvature: Böhning 1992, section 3. No rate to be chosen."""
    count, size = x_NP.shape
    target_NK = np.eye(len(CLASSES))[labels_N]
    step_PP = np.linalg.inv(x_NP.T @ x_NP / (2 * count) + decay * np.eye(size))
    weight_PK = np.zeros((size, len(CLASSES)))
    for _ in range(steps):
        odds_NK = np.exp(x_NP @ weight_PK)
        error_NK = odds_NK / odds_NK.sum(1, keepdims=True) - target_NK
        weight_PK -= step_PP @ (x_NP.T @ error_NK / count + decay * weight_PK)
    return weight_PK


def test_the_classes_are_those_of_fashion_mnist() -> None:
    assert ", ".join(CLASSES) == ("t-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot")


def test_a_seed_says_everything() -> None:
    pixels_NHW, labels_N = draw_garments(50, np.random.default_rng((3, 1)))
    again_NHW, labels_again_N = draw_garments(50, np.random.default_rng((3, 1)))
    np.testing.assert_array_equal(again_NHW, pixels_NHW)
    np.testing.assert_array_equal(labels_again_N, labels_N)


@pytest.mark.parametrize("seed", [(3, 2), (4, 1)], ids=["another split", "another drawing"])
def test_another_seed_gives_other_pictures(seed: tuple[int, int]) -> None:
    pixels_NHW, labels_N = draw_garments(50, np.random.default_rng((3, 1)))
    others_NHW, other_labels_N = draw_garments(50, np.random.default_rng(seed))
    assert (labels_N != other_labels_N).any()
    assert not {picture.tobytes() for picture in pixels_NHW} & {picture.tobytes() for picture in others_NHW}


@pytest.mark.parametrize("count", [0, 1, 10, 37, 503])
def test_shapes_and_balance(count: int) -> None:
    pixels_NHW, labels_N = draw_garments(count, np.random.default_rng(0))
    assert (pixels_NHW.shape, labels_N.shape) == ((count, 28, 28), (count,))
    assert (str(pixels_NHW.dtype), str(labels_N.dtype)) == ("uint8", "int64")
    of_class_K = np.bincount(labels_N, minlength=len(CLASSES))
    assert len(of_class_K) == len(CLASSES)
    assert of_class_K.max() - of_class_K.min() <= 1


def test_the_order_is_shuffled(drawn: Drawn) -> None:
    _, labels_N = drawn
    same = (labels_N[1:] == labels_N[:-1]).mean()
    assert 0.07 < same < 0.13  # one neighbor in ten, where labels in turn have none and sorted ones nearly all


def test_no_picture_is_drawn_twice(drawn: Drawn) -> None:
    pixels_NHW, _ = drawn
    assert len({picture.tobytes() for picture in pixels_NHW}) == len(pixels_NHW)


@pytest.mark.parametrize("label", range(len(CLASSES)), ids=CLASSES)
def test_pictures_of_a_class_differ_in_more_than_noise(drawn: Drawn, label: int) -> None:
    pixels_NHW, labels_N = drawn
    ink_NHW = pixels_NHW[labels_N == label] > 30
    half = len(ink_NHW) // 2
    one_NHW, other_NHW = ink_NHW[:half], ink_NHW[half : 2 * half]
    overlap_N = (one_NHW & other_NHW).sum((1, 2)) / (one_NHW | other_NHW).sum((1, 2))
    assert overlap_N.mean() < 0.8  # silhouettes of two: noise alone leaves them nearly the same


def test_every_picture_has_a_garment_and_a_background(drawn: Drawn) -> None:
    pixels_NHW, _ = drawn
    ink_N = (pixels_NHW > 30).mean((1, 2))
    assert ink_N.min() > 0.03
    assert ink_N.max() < 0.75
    assert (pixels_NHW.max((1, 2)) > 50).all()


@pytest.mark.parametrize("name", ["sandal", "sneaker", "ankle boot"])
def test_shoes_point_both_ways(drawn: Drawn, name: str) -> None:
    """The heel is the higher end, so the ink of the upper half leans to its side."""
    pixels_NHW, labels_N = drawn
    ink_NHW = (pixels_NHW[labels_N == CLASSES.index(name)] > 30).astype(np.float64)
    columns_W, rows_H = np.arange(28) - 13.5, np.arange(28) - 13.5
    x_N, y_N = np.einsum("nhw,w->n", ink_NHW, columns_W), np.einsum("nhw,h->n", ink_NHW, rows_H)
    ink_N = ink_NHW.sum((1, 2))
    together_N = np.einsum("nhw,h,w->n", ink_NHW, rows_H, columns_W) / ink_N - x_N * y_N / ink_N**2
    assert 0.35 < (together_N > 0).mean() < 0.65


def test_a_linear_model_sees_something_but_not_enough(drawn: Drawn) -> None:
    """Logistic regression on the pixels stays between 50 % and 85 %.

    Below, a small model would learn too slowly for a quick run to say anything; above, nothing would be left for
    attention to be better at: what tells these classes apart (an opening that is darker or brighter than the cloth, a
    shoe that points to either side, all of it shifted and turned) is no weighted sum of pixels.
    """
    pixels_NHW, labels_N = drawn
    x_NP = np.insert(pixels_NHW.reshape(len(labels_N), -1) / 255, 0, 1, axis=1)  # a pixel that is always 1: the bias
    weight_PK = logistic_regression(x_NP[:TRAIN], labels_N[:TRAIN])
    accuracy = (np.argmax(x_NP[TRAIN:] @ weight_PK, axis=1) == labels_N[TRAIN:]).mean()
    assert 0.5 < accuracy < 0.85
