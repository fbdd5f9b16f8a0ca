"""Config of attention: scoring function, normalizer and backend."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.fields import MAX_WIDTH, bounded_field, build_check
from attnbench.config.targets import find_target_fault


class Score(Enum):
    """Scoring function; nn/scoring.py has one class per name."""

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
        """True if rotating queries and keys makes the score depend only on relative position (required for rotary)."""
        return self in (Score.scaled_dot, Score.dot, Score.cosine, Score.distance)

    @property
    def allows_different_widths(self) -> bool:
        """True if queries and keys may differ in width."""
        return self in (Score.general, Score.additive, Score.concat, Score.uniform)


class Normalizer(Enum):
    """Function that turns scores into weights (nn/normalizers.py); the last two select one key."""

    softmax = "softmax"
    sparsemax = "sparsemax"
    entmax15 = "entmax15"
    gumbel = "gumbel"
    reinforce = "reinforce"


class Backend(Enum):
    """Implementation of attention; both give the same numbers."""

    auto = "auto"  # the fused kernel if the score allows it and the weights are not needed
    eager = "eager"  # always scores, mask, softmax, dropout, sum


@dataclass
class AttentionConfig:
    """Options of all attention layers of a model."""

    score: Score = Score.scaled_dot
    normalizer: Normalizer = Normalizer.softmax
    dropout: float = bounded_field(0.0, minimum=0, less_than=1)  # on the weights
    d_hidden: int | None = bounded_field(
        None, minimum=1, maximum=MAX_WIDTH
    )  # additive, concat: width of the hidden layer; null: d_k
    cosine_temperature: float = bounded_field(
        0.3, greater_than=0, maximum=1e6
    )  # cosine: initial value of the learned temperature
    gumbel_temperature: float = bounded_field(
        1.0, greater_than=0, maximum=1e6
    )  # gumbel: temperature of the softmax in the backward pass
    sigma: float | None = bounded_field(
        None, greater_than=0, maximum=1e6
    )  # distance: width of the kernel; null: d_k^(1/4)
    learn_sigma: bool = False  # distance
    backend: Backend = Backend.auto
    # The user's own subclass of ScoringFunction, in place of `score`.
    target: str | None = field(default=None, metadata=build_check(find_target_fault))
