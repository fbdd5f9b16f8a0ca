"""Normalisers: scores to weights that sum to one. Soft ones weigh every key, or few; hard ones choose one."""

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

from attnbench.config.attention import AttentionConfig, Normaliser
from attnbench.nn.autocast import exact_dtype, to_exact

NORMALISERS: dict[Normaliser, type[WeightFunction]] = {}


class WeightFunction(nn.Module, ABC):
    """Weights of keys from their scores; a subclass joins the registry by naming its Normaliser."""

    fusable: ClassVar[bool] = False  # whether fused kernels compute it

    def __init_subclass__(cls, name: Normaliser | None = None) -> None:
        super().__init_subclass__()
        if name is not None:
            NORMALISERS[name] = cls

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK, which sum to one over K, in float32 at least.

        Args:
            scores_BHQK: any dtype; the lowest finite number where a key is masked.

        Returns:
            Weights in float32, or float64 for such scores: sums of squares and of many small weights need more digits
            than autocast's dtypes have. All weights of a row are NaN where one of its scores is NaN or its best is
            infinite, so that the loss is NaN too and a diverged run is recognised as one.
        """


class Softmax(WeightFunction, name=Normaliser.softmax):
    """exp(s) over its sum."""

    fusable = True

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK, none of them zero but by underflow."""
        return scores_BHQK.softmax(-1, dtype=exact_dtype(scores_BHQK))


class Sparsemax(WeightFunction, name=Normaliser.sparsemax):
    """The nearest point of the simplex, often on its border: Martins & Astudillo 2016, equation 2."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK, many of them zero."""
        relative_BHQK, is_finite_BHQ1 = _relative_to_best(scores_BHQK)
        weights_BHQK: Tensor = entmax.sparsemax(relative_BHQK.clamp(min=_NEGLIGIBLE), dim=-1)
        return weights_BHQK.masked_fill(~is_finite_BHQ1, torch.nan)


class Entmax15(WeightFunction, name=Normaliser.entmax15):
    """Between softmax and sparsemax, at alpha = 1.5: Peters et al. 2019, equation 9."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK, some of them zero."""
        relative_BHQK, is_finite_BHQ1 = _relative_to_best(scores_BHQK)
        weights_BHQK: Tensor = entmax.entmax15(relative_BHQK.clamp(min=_NEGLIGIBLE), dim=-1)
        return weights_BHQK.masked_fill(~is_finite_BHQ1, torch.nan)


# So far below the best, both sparse functions give a score zero weight; squares of much lower scores overflow.
_NEGLIGIBLE = -4.0


def _relative_to_best(scores_BHQK: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the best score of each row, in float32 at least.

    Returns:
        relative_BHQK, at most zero, and zero throughout a row whose best score is not finite; and is_finite_BHQ1, False
        for those rows. Sorting such rows, or drawing from them, would raise an IndexError or a RuntimeError, and on a
        GPU end the process.
    """
    scores_BHQK = to_exact(scores_BHQK)
    best_BHQ1 = scores_BHQK.detach().amax(-1, keepdim=True)  # NaN where any score is
    is_finite_BHQ1 = best_BHQ1.isfinite()
    return (scores_BHQK - best_BHQ1).masked_fill(~is_finite_BHQ1, 0.0), is_finite_BHQ1


class _Hard(WeightFunction):
    """A choice of one key: drawn in training, the likeliest in evaluation (Xu et al. 2015, section 4.1)."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK, one of them one."""
        relative_BHQK, is_finite_BHQ1 = _relative_to_best(scores_BHQK)
        if self.training and not _greedy.get():
            weights_BHQK = self.draw(relative_BHQK)
        else:
            weights_BHQK = _one_hot(relative_BHQK.argmax(-1), relative_BHQK)
        return weights_BHQK.masked_fill(~is_finite_BHQ1, torch.nan)

    @abstractmethod
    def draw(self, relative_BHQK: Tensor) -> Tensor:
        """Draw weights_BHQK of one key each, with the probabilities of a softmax; the best score is zero."""


class Gumbel(_Hard, name=Normaliser.gumbel):
    """Straight through: the gradient is that of a softmax of the scores with the noise that led to the choice.

    Jang et al. 2017, section 2.2. It is biased, and the less the lower the temperature.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.temperature = config.gumbel_temperature

    def draw(self, relative_BHQK: Tensor) -> Tensor:
        """Draw weights_BHQK with Gumbel noise."""
        return F.gumbel_softmax(relative_BHQK, self.temperature, hard=True)


class Reinforce(_Hard, name=Normaliser.reinforce):
    """The score function's gradient: Williams 1992; Xu et al. 2015, equation 11.

    None goes through the weights: `choices` collects log p of what was drawn, and `choice_loss` makes a loss of it.
    """

    def draw(self, relative_BHQK: Tensor) -> Tensor:
        """Draw weights_BHQK, and note log p of the choices where `choices` collects it."""
        log_p_BHQK = relative_BHQK.log_softmax(-1)
        choice_BHQ = torch.multinomial(log_p_BHQK.detach().exp().flatten(0, -2), 1).view(relative_BHQK.shape[:-1])
        made = _made.get()
        if made is not None:
            made.append(log_p_BHQK.gather(-1, choice_BHQ.unsqueeze(-1)).flatten(1).sum(1))
        return _one_hot(choice_BHQ, relative_BHQK)


_made: ContextVar[list[Tensor] | None] = ContextVar("_made", default=None)
_greedy: ContextVar[bool] = ContextVar("_greedy", default=False)


@contextmanager
def choices() -> Iterator[list[Tensor]]:
    """Collects, of every choice that `Reinforce` makes inside, log_p_B: summed over heads and queries."""
    made: list[Tensor] = []
    token = _made.set(made)
    try:
        yield made
    finally:
        _made.reset(token)


@contextmanager
def greedy_choices() -> Iterator[None]:
    """Inside, hard attention chooses the likeliest key in training too: what a draw is compared with."""
    token = _greedy.set(True)
    try:
        yield
    finally:
        _greedy.reset(token)


def choice_loss(made: list[Tensor], loss_B: Tensor, baseline_B: Tensor) -> Tensor:
    """What to add to a loss so that its gradient is that of the expected loss, over the choices `made`.

    `loss_B` is what they led to, `baseline_B` what they have to beat, and no choice of theirs: it takes from the
    variance and leaves the expectation (Rennie et al. 2017, equation 7, where it is the loss of greedy choices).
    """
    return ((loss_B - baseline_B).detach() * torch.stack(made).sum(0)).sum()


def _one_hot(choice_BHQ: Tensor, like_BHQK: Tensor) -> Tensor:
    return F.one_hot(choice_BHQ, like_BHQK.shape[-1]).to(like_BHQK.dtype)


def build_normaliser(config: AttentionConfig) -> WeightFunction:
    """What `config.normaliser` names."""
    return NORMALISERS[config.normaliser](config)
