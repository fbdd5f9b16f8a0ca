from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attnbench.config.attention import AttentionConfig, Score
from attnbench.nn.scoring import SCORES, Additive, ScoringFunction, build_score

B, H, Q, K, D = 2, 3, 4, 5, 6


def build(score: Score, hidden: int | None = None) -> ScoringFunction:
    torch.manual_seed(0)
    return build_score(D, AttentionConfig(score=score, hidden=hidden)).double()


def queries_keys() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(B, H, Q, D, dtype=torch.double), torch.randn(B, H, K, D, dtype=torch.double)


def by_hand(score: ScoringFunction, name: Score, q: Tensor, k: Tensor) -> Tensor:
    if name is Score.dot:
        return sum(q[i] * k[i] for i in range(D))
    if name is Score.scaled_dot:
        return sum(q[i] * k[i] for i in range(D)) / math.sqrt(D)
    assert isinstance(score, Additive)
    inner = torch.tanh(score.query.weight @ q + score.key.weight @ k)
    return (score.score.weight[0] * inner).sum()


def test_every_score_has_a_class() -> None:
    assert set(SCORES) == set(Score)


@pytest.mark.parametrize("name", Score)
def test_equals_a_loop_over_pairs(name: Score) -> None:
    score, (q, k) = build(name), queries_keys()
    found = score(q, k)
    assert found.shape == (B, H, Q, K)
    for b, h, i, j in torch.cartesian_prod(*map(torch.arange, (B, H, Q, K))).tolist():
        torch.testing.assert_close(found[b, h, i, j], by_hand(score, name, q[b, h, i], k[b, h, j]))


@pytest.mark.parametrize("name", Score)
def test_gradients(name: Score) -> None:
    score, (q, k) = build(name), queries_keys()
    parameters = list(score.parameters())
    inputs = [q.requires_grad_(), k.requires_grad_(), *parameters]
    assert torch.autograd.gradcheck(lambda q, k, *_: score(q, k), inputs)


@pytest.mark.parametrize("name", Score)
def test_permuting_keys_permutes_scores(name: Score) -> None:
    score, (q, k) = build(name), queries_keys()
    order = torch.randperm(K)
    torch.testing.assert_close(score(q, k[:, :, order]), score(q, k)[..., order])


@pytest.mark.parametrize(("hidden", "width"), [(None, D), (9, 9)])
def test_additive_width(hidden: int | None, width: int) -> None:
    score = build(Score.additive, hidden)
    assert isinstance(score, Additive)
    assert score.query.weight.shape == (width, D)


def test_only_dot_products_are_fused() -> None:
    scales = {name: build(name).fused_scale() for name in Score}
    assert scales == {Score.scaled_dot: D**-0.5, Score.dot: 1.0, Score.additive: None}
