"""Floating-point operations of any network, counted while it runs."""

# Shapes: N pairs of sequences, P pairs of lengths at which FLOPs are counted, C coefficients of a polynomial

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

METHOD = (
    "counted by torch.utils.flop_counter: 2 per multiply-add of matrix products, convolutions and attention (over the"
    " whole square, masked or not), forward and backward of one example; the rest not counted"
)
METHOD_BY_LENGTH = (
    f"{METHOD}; counted at ten pairs of lengths and averaged over the training set by a polynomial of degree two"
)
# Operators of aten that multiply and add, and that have no formula.
_UNCOUNTED_OPERATORS = frozenset(
    {
        "_cdist_backward", "_cdist_forward", "_cudnn_rnn", "_fft_c2c", "_fft_c2r", "_fft_r2c", "_thnn_fused_gru_cell",
        "_thnn_fused_lstm_cell", "_trilinear", "addmv", "addr", "dot", "gru", "linalg_inv_ex", "linalg_solve_ex",
        "lstm", "miopen_rnn", "mkldnn_rnn_layer", "mv", "rnn_relu", "rnn_tanh", "vdot",
    }
)  # fmt: skip
_SHORT_LENGTHS = [2, 3, 4]
_MAX_RELATIVE_ERROR = 0.01  # of the polynomial, at the mean lengths


class UncountableError(Exception):
    """Raised if the FLOPs of a network cannot be counted; the message names the cause."""


def count_training_flops(forward: Callable[[], Tensor]) -> float:
    """Count the FLOPs of a forward pass and its backward pass by running them.

    The backward pass leaves gradients, so the caller passes a copy of its network, on any device; "meta" computes
    nothing and gives the same count. No gradient is counted for an input that requires none, so the first layer costs
    a third less.

    Args:
        forward: runs the forward pass and returns the loss, or other outputs that depend on all parameters.

    Raises:
        RuntimeError: if nothing that `forward` uses requires a gradient.
        UncountableError: if an operator has no count.
    """
    # Fused attention recomputes the scores in its backward pass, which is not counted as work of the model (model
    # FLOPs, not hardware FLOPs: Chowdhery et al. 2022, appendix B). Eager attention has the same count on all devices.
    with _FlopCounter() as counter, sdpa_kernel(SDPBackend.MATH):
        torch.autograd.backward(forward().sum())
    if counter.uncounted:
        raise UncountableError(
            f"unknown: torch.utils.flop_counter has no formula for {', '.join(sorted(counter.uncounted))}"
        )
    return float(counter.total)


def sum_flops_over_lengths(
    count: Callable[[int, int], float], source_lengths_N: np.ndarray, target_lengths_N: np.ndarray
) -> float:
    """Sum the FLOPs of pairs of sequences.

    FLOPs are a polynomial of degree two in both lengths, because attention multiplies each query with each key. The
    polynomial is fitted to counts at lengths 2, 3 and 4, which are fast, and checked at the mean lengths. If it is
    wrong there (for example, windows of attention that are longer than 4 tokens), it is fitted to the shortest,
    middle and longest lengths of the pairs.

    Args:
        count: returns the FLOPs of one pair with a source and a target length.
        source_lengths_N: source length of each pair.
        target_lengths_N: target length of each pair.

    Raises:
        UncountableError: if the FLOPs are no such polynomial.
    """
    lengths = (source_lengths_N, target_lengths_N)
    mean = [round(float(lengths_N.mean())) for lengths_N in lengths]
    mean_count = count(*mean)
    for axes in ([_SHORT_LENGTHS] * 2, [_choose_lengths(lengths_N) for lengths_N in lengths]):
        points = list(itertools.product(*axes))
        counts_P = np.array([count(*point) for point in points])
        coefficients_C, *_ = np.linalg.lstsq(_build_terms(np.array(points)), counts_P)
        fitted = float((_build_terms(np.array([mean])) @ coefficients_C).item())
        if abs(fitted - mean_count) <= _MAX_RELATIVE_ERROR * mean_count:
            return float((_build_terms(np.stack(lengths, axis=1)) @ coefficients_C).sum())
    raise UncountableError("unknown: the FLOPs are no polynomial of degree two in the lengths")


def _choose_lengths(lengths_N: np.ndarray) -> list[int]:
    low, high = int(lengths_N.min()), int(lengths_N.max())
    return sorted({low, (low + high) // 2, high})


def _build_terms(lengths_N2: np.ndarray) -> np.ndarray:
    """Return terms_NC: the terms of a polynomial of degree two in a source and a target length."""
    source_N, target_N = lengths_N2.astype(float).T
    return np.stack([np.ones_like(source_N), source_N, target_N, source_N**2, source_N * target_N, target_N**2], axis=1)


class _FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums torch's FLOP formulas over all operators that run.

    torch's own FlopCounterMode also attributes FLOPs to modules, which takes twice the time, and ignores operators that
    write their result in place.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self.uncounted: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        namespace, _, name = str(func.overloadpacket).rstrip("_").partition(".")
        if name in _FORMULAS and namespace == "aten":
            options = {key: value for key, value in kwargs.items() if key != "out"}
            self.total += _FORMULAS[name](*args, **options, out_val=result)
        elif namespace not in ("aten", "prims") or name in _UNCOUNTED_OPERATORS:
            self.uncounted.add(f"{namespace}.{name}")
        return result


_FORMULAS: dict[str, Callable[..., int]] = {
    str(operator).partition(".")[2]: formula for operator, formula in flop_registry.items()
}
