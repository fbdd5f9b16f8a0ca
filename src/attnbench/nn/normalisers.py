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
        """weights_BHQK, summing to one over K; a key that must not be seen has the lowest finite score."""


class Softmax(WeightFunction, name=Normaliser.softmax):
    """exp(s) over its sum."""

    fusable = True

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """weights_BHQK, none of them zero."""
        return scores_BHQK.softmax(-1)


class Sparsemax(WeightFunction, name=Normaliser.sparsemax):
    """The nearest point of the simplex, often on its border: Martins & Astudillo 2016, equation 2."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """weights_BHQK, many of them zero."""
        weights_BHQK: Tensor = entmax.sparsemax(_near(scores_BHQK), dim=-1)
        return weights_BHQK


class Entmax15(WeightFunction, name=Normaliser.entmax15):
    """Between softmax and sparsemax, at alpha = 1.5: Peters et al. 2019, equation 9."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """weights_BHQK, some of them zero."""
        weights_BHQK: Tensor = entmax.entmax15(_near(scores_BHQK), dim=-1)
        return weights_BHQK


def _near(scores_BHQK: Tensor) -> Tensor:
    """The same, but for scores so far below the best that both sparse functions give them zero: squares overflow."""
    return (scores_BHQK - scores_BHQK.detach().amax(-1, keepdim=True)).clamp(min=-4.0)


class _Hard(WeightFunction):
    """A choice of one key: drawn in training, the likeliest in evaluation (Xu et al. 2015, section 4.1)."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """weights_BHQK, one of them one."""
        if not self.training or _greedy.get():
            return _one_hot(scores_BHQK.argmax(-1), scores_BHQK)
        return self.draw(scores_BHQK - scores_BHQK.detach().amax(-1, keepdim=True))

    @abstractmethod
    def draw(self, scores_BHQK: Tensor) -> Tensor:
        """weights_BHQK of a choice with the probabilities of a softmax; the best score is zero."""


class Gumbel(_Hard, name=Normaliser.gumbel):
    """Straight through: the gradient is that of a softmax of the scores with the noise that led to the choice.

    Jang et al. 2017, section 2.2. It is biased, and the less the lower the temperature.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.temperature = config.gumbel_temperature

    def draw(self, scores_BHQK: Tensor) -> Tensor:
        """weights_BHQK."""
        return F.gumbel_softmax(scores_BHQK, self.temperature, hard=True)


class Reinforce(_Hard, name=Normaliser.reinforce):
    """The score function's gradient: Williams 1992; Xu et al. 2015, equation 11.

    None goes through the weights: `choices` collects log p of what was drawn, and `choice_loss` makes a loss of it.
    """

    def draw(self, scores_BHQK: Tensor) -> Tensor:
        """weights_BHQK."""
        log_p_BHQK = scores_BHQK.log_softmax(-1)
        choice_BHQ = torch.multinomial(log_p_BHQK.detach().exp().flatten(0, -2), 1).view(scores_BHQK.shape[:-1])
        made = _made.get()
        if made is not None:
            made.append(log_p_BHQK.gather(-1, choice_BHQ.unsqueeze(-1)).flatten(1).sum(1))
        return _one_hot(choice_BHQ, scores_BHQK)


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
