"""What may be said about attention: how it scores, and which path computes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import MAX_WIDTH, bounded_field


class Score(Enum):
    """How well a key matches a query (nn/scoring.py has one class for each name)."""

    scaled_dot = "scaled_dot"
    dot = "dot"
    general = "general"
    additive = "additive"
    concat = "concat"
    cosine = "cosine"
    distance = "distance"
    uniform = "uniform"

    @property
    def supports_rotary(self) -> bool:
        """Whether turning queries and keys by their places leaves a score that knows their distance alone."""
        return self in (Score.scaled_dot, Score.dot, Score.cosine, Score.distance)

    @property
    def allows_different_widths(self) -> bool:
        """Whether queries and keys may differ in width."""
        return self in (Score.general, Score.additive, Score.concat, Score.uniform)


class Normalizer(Enum):
    """How scores become weights (nn/normalizers.py has one class for each name); the last two choose one key."""

    softmax = "softmax"
    sparsemax = "sparsemax"
    entmax15 = "entmax15"
    gumbel = "gumbel"
    reinforce = "reinforce"


class Backend(Enum):
    """Which path computes attention: both give the same numbers."""

    auto = "auto"  # the fused kernel where the score allows it and nobody asks for weights
    eager = "eager"  # always scores, mask, softmax, dropout, sum


@dataclass
class AttentionConfig:
    """One scoring function for every attention of a model."""

    score: Score = Score.scaled_dot
    normalizer: Normalizer = Normalizer.softmax
    dropout: float = bounded_field(0.0, minimum=0, less_than=1)  # on the weights
    d_hidden: int | None = bounded_field(
        None, minimum=1, maximum=MAX_WIDTH
    )  # additive, concat: width of the hidden layer; null: d_k
    cosine_temperature: float = bounded_field(
        0.3, greater_than=0, maximum=1e6
    )  # cosine: what it starts from; it is learned
    gumbel_temperature: float = bounded_field(
        1.0, greater_than=0, maximum=1e6
    )  # gumbel: how soft the choice is to the gradient
    sigma: float | None = bounded_field(
        None, greater_than=0, maximum=1e6
    )  # distance: width of the kernel; null: d_k^(1/4)
    learn_sigma: bool = False  # distance
    backend: Backend = Backend.auto
