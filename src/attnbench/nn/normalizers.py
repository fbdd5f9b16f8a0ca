"""Normalizers: from scores to weights that sum to one. Some weigh all keys, some only a few; hard ones choose one."""

# Shapes: B batch, H heads, Q queries, K keys

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ClassVar

import entmax
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Normalizer
from attnbench.nn.autocast import at_least_float32_dtype, to_at_least_float32

NORMALIZERS: dict[Normalizer, type[AttentionNormalizer]] = {}


class AttentionNormalizer(nn.Module, ABC):
    """Base class of normalizers, which compute attention weights from scores; a subclass registers by its name."""

    is_fusable: ClassVar[bool] = False  # whether fused kernels compute it

    def __init_subclass__(cls, name: Normalizer | None = None) -> None:
        super().__init_subclass__()
        if name is not None:
            NORMALIZERS[name] = cls

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK, which sum to one over K.

        Args:
            scores_BHQK: scores of any dtype; the lowest finite number where a key is masked.

        Returns:
            Weights in float32, or in float64 for float64 scores: sums of many small weights need more digits than
                bfloat16 has.
            All weights of a row are NaN where one of its scores is NaN or its maximum is infinite, so that the loss
            is NaN and the run is recognized as diverged.
        """


class Softmax(AttentionNormalizer, name=Normalizer.softmax):
    """Softmax: exp(s) / sum(exp(s))."""

    is_fusable = True

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK; all are positive, except for underflow."""
        return scores_BHQK.softmax(-1, dtype=at_least_float32_dtype(scores_BHQK))


class Sparsemax(AttentionNormalizer, name=Normalizer.sparsemax):
    """Euclidean projection of the scores onto the simplex, which gives exact zeros.

    Source: Martins & Astudillo 2016, equation 2.
    """

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK; many are zero."""
        relative_BHQK, is_finite_BHQ1 = _subtract_max(scores_BHQK)
        weights_BHQK: Tensor = entmax.sparsemax(relative_BHQK.clamp(min=_MIN_RELATIVE_SCORE), dim=-1)
        return weights_BHQK.masked_fill(~is_finite_BHQ1, torch.nan)


class Entmax15(AttentionNormalizer, name=Normalizer.entmax15):
    """Entmax with alpha = 1.5, between softmax and sparsemax (Peters et al. 2019, equation 9)."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK; some are zero."""
        relative_BHQK, is_finite_BHQ1 = _subtract_max(scores_BHQK)
        weights_BHQK: Tensor = entmax.entmax15(relative_BHQK.clamp(min=_MIN_RELATIVE_SCORE), dim=-1)
        return weights_BHQK.masked_fill(~is_finite_BHQ1, torch.nan)


# Scores this far below the maximum get zero weight; the clamp avoids overflow of their squares.
_MIN_RELATIVE_SCORE = -4.0


def _subtract_max(scores_BHQK: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the maximum of each row, in float32 or float64.

    Returns:
        relative_BHQK, at most zero, and zero in the whole row if its maximum is not finite; and is_finite_BHQ1, False
        for such rows. Sorting or sampling such rows would raise an error, and on a GPU end the process.
    """
    scores_BHQK = to_at_least_float32(scores_BHQK)
    best_BHQ1 = scores_BHQK.detach().amax(-1, keepdim=True)  # NaN if any score is NaN
    is_finite_BHQ1 = best_BHQ1.isfinite()
    return (scores_BHQK - best_BHQ1).masked_fill(~is_finite_BHQ1, 0.0), is_finite_BHQ1


class _HardChoice(AttentionNormalizer):
    """Choice of one key: sampled in training, the likeliest in evaluation (Xu et al. 2015, section 4.1)."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK: one for the chosen key, zero for the others."""
        relative_BHQK, is_finite_BHQ1 = _subtract_max(scores_BHQK)
        if self.training and not _is_greedy.get():
            weights_BHQK = self.sample_weights(relative_BHQK)
        else:
            weights_BHQK = _build_one_hot(relative_BHQK.argmax(-1), relative_BHQK)
        return weights_BHQK.masked_fill(~is_finite_BHQ1, torch.nan)

    @abstractmethod
    def sample_weights(self, relative_BHQK: Tensor) -> Tensor:
        """Sample one-hot weights_BHQK with the probabilities of a softmax; the maximum of each row is zero."""


class Gumbel(_HardChoice, name=Normalizer.gumbel):
    """Straight-through Gumbel-softmax: one key forward, the gradient of the noisy softmax backward.

    Source: Jang et al. 2017, section 2.2. The gradient is biased, less so at lower temperatures.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.temperature = config.gumbel_temperature

    def sample_weights(self, relative_BHQK: Tensor) -> Tensor:
        """Sample one-hot weights_BHQK by adding Gumbel noise to the scores."""
        return F.gumbel_softmax(relative_BHQK, self.temperature, hard=True)


class Reinforce(_HardChoice, name=Normalizer.reinforce):
    """Score-function gradient, REINFORCE (Williams 1992; Xu et al. 2015, equation 11).

    No gradient goes through the weights: `collect_choices` collects log p of the sampled keys, and
    `compute_choice_loss` turns them into a loss.
    """

    def sample_weights(self, relative_BHQK: Tensor) -> Tensor:
        """Sample one-hot weights_BHQK, and store log p of the choices for `collect_choices`."""
        log_p_BHQK = relative_BHQK.log_softmax(-1)
        choice_BHQ = torch.multinomial(log_p_BHQK.detach().exp().flatten(0, -2), 1).view(relative_BHQK.shape[:-1])
        made = _collected_choices.get()
        if made is not None:
            made.append(log_p_BHQK.gather(-1, choice_BHQ.unsqueeze(-1)).flatten(1).sum(1))
        return _build_one_hot(choice_BHQ, relative_BHQK)


_collected_choices: ContextVar[list[Tensor] | None] = ContextVar("_made", default=None)
_is_greedy: ContextVar[bool] = ContextVar("_greedy", default=False)


@contextmanager
def collect_choices() -> Iterator[list[Tensor]]:
    """Collect the choices that `Reinforce` makes inside the context.

    Yields:
        A list with log_p_B, summed over heads and queries, for each call.
    """
    made: list[Tensor] = []
    token = _collected_choices.set(made)
    try:
        yield made
    finally:
        _collected_choices.reset(token)


@contextmanager
def choose_greedily() -> Iterator[None]:
    """Make hard attention choose the likeliest key in training too; its loss is the baseline for sampled choices."""
    token = _is_greedy.set(True)
    try:
        yield
    finally:
        _is_greedy.reset(token)


def compute_choice_loss(log_p_choices: list[Tensor], loss_B: Tensor, baseline_B: Tensor) -> Tensor:
    """Compute the loss whose gradient is the REINFORCE estimate for the sampled choices.

    Args:
        log_p_choices: what `collect_choices` collected.
        loss_B: loss that the sampled choices led to.
        baseline_B: baseline that lowers the variance and keeps the expectation; it must not depend on the choices.
            The loss of greedy choices is one (Rennie et al. 2017, equation 7).
    """
    return ((loss_B - baseline_B).detach() * torch.stack(log_p_choices).sum(0)).sum()


def _build_one_hot(choice_BHQ: Tensor, like_BHQK: Tensor) -> Tensor:
    """Build one-hot weights_BHQK from the index of the chosen key."""
    return F.one_hot(choice_BHQ, like_BHQK.shape[-1]).to(like_BHQK.dtype)


def build_normalizer(config: AttentionConfig) -> AttentionNormalizer:
    """Build the normalizer that `config.normalizer` names."""
    return NORMALIZERS[config.normalizer](config)
