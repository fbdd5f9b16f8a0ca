"""Scoring functions: how well a key matches a query. They only score; nn/attention.py does all the rest."""

# Shapes: B batch, H heads, Q queries, K keys, D width of a head, A width of the additive score's hidden layer

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Score

SCORES: dict[Score, type[ScoringFunction]] = {}


class ScoringFunction(nn.Module, ABC):
    """A match between queries and keys; a subclass joins the registry by naming its Score."""

    def __init_subclass__(cls, score: Score) -> None:
        super().__init_subclass__()
        SCORES[score] = cls

    def __init__(self, d_k: int, config: AttentionConfig) -> None:
        super().__init__()
        self.d_k = d_k

    @abstractmethod
    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """scores_BHQK: any real number, higher for a better match."""

    def fused_scale(self) -> float | None:
        """The factor on q.k with which a fused kernel computes this score; None: no such kernel can."""
        return None


class Dot(ScoringFunction, score=Score.dot):
    """q.k: Luong et al. 2015, section 3.1, "dot"."""

    scale = 1.0

    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """scores_BHQK = scale * q.k."""
        # The queries are scaled, not the scores: K / D times fewer numbers.
        return (q_BHQD * self.scale) @ k_BHKD.transpose(-2, -1)

    def fused_scale(self) -> float:
        """The scale: fused kernels compute dot products."""
        return self.scale


class ScaledDot(Dot, score=Score.scaled_dot):
    """q.k / sqrt(d_k): Vaswani et al. 2017, equation 1."""

    def __init__(self, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_k, config)
        self.scale = d_k**-0.5


class Additive(ScoringFunction, score=Score.additive):
    """v.tanh(W q + U k), shared by all heads: Bahdanau et al. 2015, appendix A.1.2."""

    def __init__(self, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_k, config)
        hidden = config.hidden or d_k
        self.query = nn.Linear(d_k, hidden, bias=False)
        self.key = nn.Linear(d_k, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """scores_BHQK; needs memory for B x H x Q x K x A numbers."""
        sum_BHQKA: Tensor = self.query(q_BHQD).unsqueeze(-2) + self.key(k_BHKD).unsqueeze(-3)
        # In place: the sum is by far the largest tensor of a model that scores so.
        scores_BHQK1: Tensor = self.score(torch.tanh_(sum_BHQKA))
        return scores_BHQK1.squeeze(-1)


def build_score(d_k: int, config: AttentionConfig) -> ScoringFunction:
    """The scoring function that `config.score` names, for heads of width `d_k`."""
    return SCORES[config.score](d_k, config)
