"""Drawn garments: the same for a seed, all different, all visible, and beyond what a linear model can tell apart."""

# Shapes: N pictures, H rows, W columns, P pixels of a picture, K classes

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from attnbench.data.synthetic_garments import CLASSES, draw

Drawn = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

TRAIN = 4000  # of the 5,000 drawn below; the rest is the test set


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return draw(5000, np.random.default_rng((0, 0)))


def test_the_classes_are_those_of_fashion_mnist() -> None:
    assert ", ".join(CLASSES) == ("t-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot")


def test_a_seed_says_everything() -> None:
    pixels_NHW, labels_N = draw(50, np.random.default_rng((3, 1)))
    again_NHW, labels_again_N = draw(50, np.random.default_rng((3, 1)))
    np.testing.assert_array_equal(again_NHW, pixels_NHW)
    np.testing.assert_array_equal(labels_again_N, labels_N)


@pytest.mark.parametrize("seed", [(3, 2), (4, 1)], ids=["another split", "another drawing"])
def test_another_seed_gives_other_pictures(seed: tuple[int, int]) -> None:
    pixels_NHW, labels_N = draw(50, np.random.default_rng((3, 1)))
    others_NHW, other_labels_N = draw(50, np.random.default_rng(seed))
    assert (labels_N != other_labels_N).any()
    assert not {picture.tobytes() for picture in pixels_NHW} & {picture.tobytes() for picture in others_NHW}


@pytest.mark.parametrize("count", [0, 1, 10, 37, 503])
def test_shapes_and_balance(count: int) -> None:
    pixels_NHW, labels_N = draw(count, np.random.default_rng(0))
    assert (pixels_NHW.shape, pixels_NHW.dtype) == ((count, 28, 28), np.uint8)
    assert (labels_N.shape, labels_N.dtype) == ((count,), np.int64)
    of_class_K = np.bincount(labels_N, minlength=len(CLASSES))
    assert len(of_class_K) == len(CLASSES)
    assert of_class_K.max() - of_class_K.min() <= 1


def test_the_order_is_shuffled(drawn: Drawn) -> None:
    _, labels_N = drawn
    same = (labels_N[1:] == labels_N[:-1]).mean()
    assert 0.07 < same < 0.13  # one neighbour in ten, where labels in turn have none and sorted ones nearly all


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
    x_NP, y_N = torch.from_numpy(pixels_NHW).flatten(1) / 255, torch.from_numpy(labels_N)
    weight_KP = torch.zeros(len(CLASSES), x_NP.shape[1], requires_grad=True)
    bias_K = torch.zeros(len(CLASSES), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight_KP, bias_K], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits_NK = functional.linear(x_NP[:TRAIN], weight_KP, bias_K)
        value = functional.cross_entropy(logits_NK, y_N[:TRAIN]) + 5e-4 * weight_KP.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found_N = functional.linear(x_NP[TRAIN:], weight_KP, bias_K).argmax(1)
    accuracy = (found_N == y_N[TRAIN:]).double().mean().item()
    assert 0.5 < accuracy < 0.85
