"""What may be said about attention: how it scores, and which path computes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import LARGEST_WIDTH, number


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
    def turns(self) -> bool:
        """Whether turning queries and keys by their places leaves a score that knows their distance alone."""
        return self in (Score.scaled_dot, Score.dot, Score.cosine, Score.distance)

    @property
    def two_widths(self) -> bool:
        """Whether queries and keys may differ in width."""
        return self in (Score.general, Score.additive, Score.concat, Score.uniform)


class Normaliser(Enum):
    """How scores become weights (nn/normalizers.py has one class for each name); the last two choose one key."""

    softmax = "softmax"
    sparsemax = "sparsemax"
    entmax15 = "entmax15"
    gumbel = "gumbel"
    reinforce = "reinforce"


class Backend(Enum):
    """Which path computes attention: both give the same numbers."""

    auto = "auto"  # the fused kernel where the score allows it and nobody asks for weights
    explicit = "explicit"  # always scores, mask, softmax, dropout, sum


@dataclass
class AttentionConfig:
    """One scoring function for every attention of a model."""

    score: Score = Score.scaled_dot
    normaliser: Normaliser = Normaliser.softmax
    dropout: float = number(0.0, at_least=0, below=1)  # on the weights
    hidden: int | None = number(
        None, at_least=1, at_most=LARGEST_WIDTH
    )  # additive, concat: width of the hidden layer; null: d_k
    temperature: float = number(0.3, above=0, at_most=1e6)  # cosine: what it starts from; it is learned
    gumbel_temperature: float = number(1.0, above=0, at_most=1e6)  # gumbel: how soft the choice is to the gradient
    sigma: float | None = number(None, above=0, at_most=1e6)  # distance: width of the kernel; null: d_k^(1/4)
    learn_sigma: bool = False  # distance
    backend: Backend = Backend.auto
