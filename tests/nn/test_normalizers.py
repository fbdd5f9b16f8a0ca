from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attnbench.config.attention import AttentionConfig, Backend, Normalizer
from attnbench.nn import normalizers
from attnbench.nn.attention import Attention
from attnbench.nn.normalizers import (
    NORMALIZERS,
    AttentionNormalizer,
    build_normalizer,
    choose_greedily,
    collect_choices,
    compute_choice_loss,
)

HARD = [Normalizer.gumbel, Normalizer.reinforce]
SOFT = [name for name in Normalizer if name not in HARD]


def build(name: Normalizer, temperature: float = 1.0) -> AttentionNormalizer:
    return build_normalizer(AttentionConfig(normalizer=name, gumbel_temperature=temperature))


def test_every_normalizer_has_a_class() -> None:
    assert set(NORMALIZERS) == set(Normalizer)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", Normalizer)
def test_weights_are_on_the_simplex_and_rise_with_scores(name: Normalizer, training: bool) -> None:
    scores = torch.randn(2, 3, 4, 5)
    scores[..., 0] = torch.finfo(torch.float32).min  # a masked key
    scores[0, 0, 0] = torch.finfo(torch.float32).min  # a row of them
    weights = build(name).train(training)(scores)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4))
    assert (weights[1, ..., 0] == 0).all()
    if name in SOFT or not training:
        best = scores.argmax(-1, keepdim=True)
        assert (weights.gather(-1, best) == weights.amax(-1, keepdim=True)).all()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", Normalizer)
def test_weights_sum_to_one_under_autocast(name: Normalizer, dtype: torch.dtype, training: bool) -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 5, 197, requires_grad=True)
    with torch.autocast("cpu", dtype=dtype):
        weights = build(name).train(training)(scores.to(dtype))
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", Normalizer)
def test_a_row_of_scores_that_are_no_numbers_gives_nan_and_no_other_row(
    name: Normalizer, bad: float, training: bool
) -> None:
    """A diverged model has a NaN loss: not an IndexError of a sort, nor a RuntimeError of a draw."""
    scores = torch.randn(2, 3, 4, 5)
    scores[1, 2, 3] = bad
    weights = build(name).train(training)(scores.requires_grad_())
    is_nan = weights.isnan()
    assert is_nan[1, 2, 3].all()
    assert is_nan.sum() == 5
    if weights.requires_grad:
        weights.sum().backward()


@pytest.mark.parametrize("name", Normalizer)
def test_one_score_that_is_no_number_gives_a_row_of_nan(name: Normalizer) -> None:
    scores = torch.randn(2, 3, 4, 5)
    scores[1, 2, 3, 1] = torch.nan
    assert build(name)(scores)[1, 2, 3].isnan().all()
    attention = Attention(5, 5, AttentionConfig(normalizer=name, backend=Backend.eager))
    queries, keys = torch.randn(1, 1, 3, 5), torch.randn(1, 1, 4, 5)
    queries[0, 0, 1, 0] = torch.nan
    for is_training in (False, True):
        context = attention.train(is_training)(queries, keys, keys).context
        assert context.isnan().any(-1).flatten().tolist() == [False, True, False]


ENTROPIES: dict[Normalizer, Callable[[Tensor], Tensor]] = {
    Normalizer.softmax: lambda p: -torch.special.xlogy(p, p).sum(-1),
    Normalizer.sparsemax: lambda p: (1 - p.square().sum(-1)) / 2,
    Normalizer.entmax15: lambda p: (1 - p.pow(1.5).sum(-1)) / (1.5 * 0.5),
}


@pytest.mark.parametrize("name", ENTROPIES)
def test_weights_maximize_their_regularized_score(name: Normalizer) -> None:
    """Each maximizes p.s + H(p) over the simplex, for its own entropy H: no other point does better."""

    def value(p: Tensor, s: Tensor) -> Tensor:
        return (p * s).sum(-1) + ENTROPIES[name](p)

    torch.manual_seed(0)
    scores = 2 * torch.randn(7, 4, dtype=torch.double)
    others = torch.distributions.Dirichlet(torch.ones(4, dtype=torch.double)).sample((200, 7))
    best = value(build(name)(scores), scores)
    assert (best >= value(others, scores) - 1e-9).all()
    near = 0.98 * build(name)(scores) + 0.02 * others
    assert (best >= value(near, scores) - 1e-9).all()


@pytest.mark.parametrize("name", SOFT)
def test_gradients(name: Normalizer) -> None:
    torch.manual_seed(0)
    scores = torch.randn(3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(build(name), scores)


@pytest.mark.parametrize("name", HARD)
def test_a_hard_choice_is_drawn_in_training_and_the_best_in_evaluation(name: Normalizer) -> None:
    torch.manual_seed(0)
    probabilities = torch.tensor([0.5, 0.3, 0.2, 0.0])
    scores = probabilities.log().clamp(min=torch.finfo(torch.float32).min).expand(20_000, 1, 1, 4)
    function = build(name, temperature=0.5)
    drawn = function(scores)
    torch.testing.assert_close(drawn.amax(-1), torch.ones(20_000, 1, 1))
    torch.testing.assert_close(drawn.mean(0).flatten(), probabilities, atol=0.015, rtol=0)
    with choose_greedily():
        assert (function(scores)[..., 0] == 1).all()
    assert (function.eval()(scores)[..., 0] == 1).all()


def test_straight_through_has_the_gradient_of_the_softmax_with_its_noise() -> None:
    function, scores = build(Normalizer.gumbel, temperature=0.7), torch.randn(5, 4, dtype=torch.double)
    target = torch.randn(5, 4, dtype=torch.double)

    def gradient(soft: bool) -> Tensor:
        torch.manual_seed(0)
        leaf = scores.clone().requires_grad_()
        noise = -torch.empty_like(leaf).exponential_().log()
        torch.manual_seed(0)
        weights = ((leaf + noise) / 0.7).softmax(-1) if soft else function(leaf)
        return torch.autograd.grad((weights * target).sum(), leaf)[0]

    torch.testing.assert_close(gradient(soft=False), gradient(soft=True))


def test_reinforce_has_the_gradient_of_the_expected_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over every choice that two heads and two queries can make, weighed by its probability, the estimator's gradient
    is that of the expected loss, by finite differences; with any baseline."""
    torch.manual_seed(0)
    attention = Attention(3, 3, AttentionConfig(normalizer=Normalizer.reinforce)).double()
    q, k = torch.randn(1, 2, 2, 3, dtype=torch.double), torch.randn(1, 2, 3, 3, dtype=torch.double)
    v = torch.randn(1, 2, 3, 3, dtype=torch.double)
    every = [torch.tensor(made).view(4, 1) for made in itertools.product(range(3), repeat=4)]

    def losses(q: Tensor, choice: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The loss_B that a choice leads to, and its log p."""
        monkeypatch.setattr(normalizers.torch, "multinomial", lambda *_: choice)
        with collect_choices() as made:
            context = attention(q, k, v).context
        return torch.sin(context).sum((1, 2, 3)) + q.square().sum((1, 2, 3)), made

    def expected(q: Tensor) -> Tensor:
        found = [losses(q, choice) for choice in every]
        return torch.stack([(made[0].exp() * loss).sum() for loss, made in found]).sum()

    total = torch.zeros_like(q)
    for choice in every:
        leaf = q.clone().requires_grad_()
        loss, made = losses(leaf, choice)
        surrogate = loss.sum() + compute_choice_loss(made, loss, torch.full_like(loss, 0.7))
        total += made[0].exp().detach() * torch.autograd.grad(surrogate, leaf)[0]
    step = 1e-5
    for index in itertools.product(*map(range, q.shape)):
        moved = torch.zeros_like(q)
        moved[index] = step
        slope = (expected(q + moved) - expected(q - moved)) / (2 * step)
        torch.testing.assert_close(total[index], slope.detach(), atol=1e-7, rtol=1e-6)
