from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attnbench.metrics.classification import score_predictions


def naive_calibration_error(probabilities_NK: Tensor, labels_N: Tensor, bins: int) -> float:
    """Guo et al. 2017, equation 3, by hand."""
    examples = []
    for row, label in zip(probabilities_NK.tolist(), labels_N.tolist(), strict=True):
        guess = max(range(len(row)), key=lambda k: row[k])
        examples.append((row[guess], float(guess == label)))
    total = 0.0
    for m in range(1, bins + 1):
        members = [pair for pair in examples if (m - 1) / bins < pair[0] <= m / bins]
        if members:
            confidence, accuracy = (sum(column) / len(members) for column in zip(*members, strict=True))
            total += len(members) / len(examples) * abs(accuracy - confidence)
    return 100 * total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "k", "bins"), [(1, 2, 1), (200, 4, 15), (500, 10, 10)])
def test_scores_are_the_naive_loops(n: int, k: int, bins: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(n)
    log_p_NK = (3 * torch.randn(n, k, generator=generator, dtype=dtype)).log_softmax(-1)
    labels_N = torch.randint(k, (n,), generator=generator)
    found = score_predictions(log_p_NK, labels_N, num_bins=bins)

    rows, labels = log_p_NK.tolist(), labels_N.tolist()
    guesses = [row.index(max(row)) for row in rows]
    confusion = [[0] * k for _ in range(k)]
    for label, guess in zip(labels, guesses, strict=True):
        confusion[label][guess] += 1
    assert found.confusion == confusion
    assert found.accuracy == pytest.approx(100 * sum(a == b for a, b in zip(guesses, labels, strict=True)) / n)
    assert found.per_class == [
        pytest.approx(100 * row[i] / sum(row)) if sum(row) else None for i, row in enumerate(confusion)
    ]
    assert found.loss == pytest.approx(-sum(row[label] for row, label in zip(rows, labels, strict=True)) / n)
    assert found.calibration_error == pytest.approx(naive_calibration_error(log_p_NK.double().exp(), labels_N, bins))


def test_a_perfect_predictor() -> None:
    labels_N = torch.tensor([0, 1, 2, 2])
    found = score_predictions(torch.eye(3)[labels_N].log(), labels_N, num_bins=15)
    assert (found.accuracy, found.calibration_error, found.loss) == (100, pytest.approx(0), 0)
    assert found.per_class == [100, 100, 100]
    assert found.confusion == [[1, 0, 0], [0, 1, 0], [0, 0, 2]]


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_a_uniform_predictor(bins: int) -> None:
    """Says the first class of equals, with the confidence of chance; calibrated where the classes are balanced."""
    labels_N = torch.tensor([0, 1, 2, 3, 0, 0, 0, 0])
    log_p_NK = torch.full((8, 4), 0.25, dtype=torch.float64).log()
    found = score_predictions(log_p_NK, labels_N, num_bins=bins)
    assert found.accuracy == 62.5
    assert found.per_class == [100, 0, 0, 0]
    assert found.loss == pytest.approx(math.log(4))
    assert found.calibration_error == pytest.approx(62.5 - 25)
    assert score_predictions(log_p_NK[:4], labels_N[:4], num_bins=bins).calibration_error == pytest.approx(0)


def test_a_class_without_examples_has_no_accuracy() -> None:
    found = score_predictions(torch.zeros(2, 3).log_softmax(-1), torch.tensor([0, 2]), num_bins=10)
    assert found.per_class == [100, None, 0]
    assert found.confusion == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_bins_are_closed_on_the_right() -> None:
    """0.5 stands with 0.4 and a certain 1 with 0.9: one bin says half of them right, two would say |1 - p| each."""
    p_NK = torch.tensor([[0.5, 0.25, 0.25], [0.4, 0.3, 0.3], [1.0, 0.0, 0.0], [0.9, 0.1, 0.0]], dtype=torch.float64)
    labels_N = torch.tensor([0, 1, 1, 0])
    expected = naive_calibration_error(p_NK, labels_N, bins=2)
    assert expected == pytest.approx(100 * (0.5 * abs(0.5 - 0.45) + 0.5 * abs(0.5 - 0.95)))
    assert score_predictions(p_NK.log(), labels_N, num_bins=2).calibration_error == pytest.approx(expected)


def test_a_wrong_certainty_costs_without_end() -> None:
    assert score_predictions(torch.tensor([[1.0, 0.0]]).log(), torch.tensor([1]), num_bins=15).loss == math.inf


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((0, 3), [], r"a label for each example: got \(0, 3\) and \(0,\)"),
        ((2, 3), [0], r"a label for each example: got \(2, 3\) and \(1,\)"),
        ((3,), [0, 1, 2], r"got \(3,\) and \(3,\)"),
        ((2, 3), [0, 3], "expected labels from 0 to 2: got 0 to 3"),
        ((2, 3), [-100, 1], "expected labels from 0 to 2: got -100 to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_a_sentence(
    shape: tuple[int, ...], labels: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        score_predictions(torch.zeros(shape), torch.tensor(labels, dtype=torch.int64), num_bins=15)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("value", "message"), [(0.5, "at most 0: got 0.5"), (math.nan, "at most 0: got nan")])
def test_logits_and_nan_are_no_log_probabilities(value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_predictions(torch.tensor([[value, -1.0], [-0.7, -0.7]]), torch.tensor([0, 1]), num_bins=15)
