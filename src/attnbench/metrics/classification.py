"""Scores of a classifier from log-probabilities: accuracy, calibration error, confusion matrix and loss."""

# Shapes: N examples, K classes

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error, multiclass_confusion_matrix


@dataclass(frozen=True)
class ClassScores:
    """Scores of a classifier on a set of examples; all but `loss` in percent, 0 to 100."""

    accuracy: float
    per_class: list[float | None]  # accuracy on the examples of each class; None: there are none
    calibration_error: float  # expected calibration error: Guo et al. 2017, equation 3
    confusion: list[list[int]]  # examples; row: true class, column: predicted class
    loss: float  # mean negative log-likelihood of the true class, nats


def score_predictions(log_probabilities_NK: Tensor, labels_N: Tensor, *, num_bins: int) -> ClassScores:
    """Score predicted distributions; the prediction is the likeliest class, the first of equals.

    The calibration error is sum_m |B_m| / N |accuracy(B_m) - confidence(B_m)| over `num_bins` bins of equal width,
    where B_m are the examples whose highest probability is in ((m - 1) / bins, m / bins]. Computed in float64 on the
    CPU.

    Args:
        log_probabilities_NK: log-probabilities of the K classes.
        labels_N: correct classes.
        num_bins: bins of the calibration error.

    Raises:
        ValueError: without examples, for another number of labels, labels out of range, or numbers that are not
            log-probabilities.
    """
    _check_inputs(log_probabilities_NK, labels_N)
    log_probabilities_NK, labels_N = log_probabilities_NK.detach().cpu().double(), labels_N.cpu().long()
    classes = log_probabilities_NK.shape[1]
    confidence_N, predicted_N = log_probabilities_NK.exp().max(dim=1)
    # torchmetrics closes its bins on the left, Guo et al. on the right; that also gives a probability of exactly 1,
    # which a confident network often has in float32, its own bin. nextafter corrects both; torchmetrics' form
    # for two classes, right or wrong, because the one for many rounds to float32 and takes the step back.
    confidence_N = confidence_N.nextafter(torch.zeros_like(confidence_N))
    right_N = (predicted_N == labels_N).long()
    calibration = binary_calibration_error(confidence_N, right_N, n_bins=num_bins, validate_args=False)
    confusion_KK = multiclass_confusion_matrix(predicted_N, labels_N, classes, validate_args=False)
    right_K, examples_K = confusion_KK.diag(), confusion_KK.sum(dim=1)
    return ClassScores(
        accuracy=100 * float(right_K.sum()) / len(labels_N),
        per_class=[
            100 * right / examples if examples else None
            for right, examples in zip(right_K.tolist(), examples_K.tolist(), strict=True)
        ],
        calibration_error=100 * float(calibration),
        confusion=confusion_KK.tolist(),
        loss=float(F.nll_loss(log_probabilities_NK, labels_N)),
    )


def _check_inputs(log_probabilities_NK: Tensor, labels_N: Tensor) -> None:
    """Check shapes, labels and log-probabilities."""
    if log_probabilities_NK.ndim != 2 or labels_N.shape != log_probabilities_NK.shape[:1] or not len(labels_N):
        raise ValueError(
            "expected log-probabilities of some examples by classes, and a label for each example:"
            f" got {tuple(log_probabilities_NK.shape)} and {tuple(labels_N.shape)}"
        )
    if not (log_probabilities_NK.max() <= 0):  # torchmetrics would take them for logits, or a NaN for a zero
        raise ValueError(f"expected log-probabilities, at most 0: got {float(log_probabilities_NK.max()):g}")
    lowest, highest, classes = int(labels_N.min()), int(labels_N.max()), log_probabilities_NK.shape[1]
    if lowest < 0 or highest >= classes:
        raise ValueError(f"expected labels from 0 to {classes - 1}: got {lowest} to {highest}")
