from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from attnbench.config.attention import AttentionConfig, Score
from attnbench.nn.scoring import SCORES, Additive, ScoringFunction, build_score

B, H, Q, K, D = 2, 3, 4, 5, 6
FUSABLE = [name for name in Score if SCORES[name].is_fusable]
TWO_WIDTHS = [name for name in Score if name.allows_different_widths]


def build(score: Score, d_q: int = D, d_k: int = D, **options: Any) -> ScoringFunction:
    torch.manual_seed(0)
    return build_score(d_q, d_k, AttentionConfig(score=score, **options)).double()


def queries_keys(d_q: int = D, d_k: int = D) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(B, H, Q, d_q, dtype=torch.double), torch.randn(B, H, K, d_k, dtype=torch.double)


def scores(score: ScoringFunction, q: Tensor, k: Tensor) -> Tensor:
    found: Tensor = score(q, score.prepare_keys(k))
    return found


def by_hand(score: ScoringFunction, q: Tensor, k: Tensor) -> Tensor:
    """The score's equation, for one query and one key."""
    parts = dict(score.named_parameters()) | dict(score.named_buffers())
    dot = sum(q[i] * k[i] for i in range(len(q))) if len(q) == len(k) else None
    match next(name for name, kind in SCORES.items() if kind is type(score)):
        case Score.dot:
            return dot
        case Score.scaled_dot:
            return dot / math.sqrt(D)
        case Score.general:
            return k @ parts["weight.weight"] @ q
        case Score.additive:
            inner = torch.tanh(parts["query.weight"] @ q + parts["key.weight"] @ k)
            return (parts["score.weight"][0] * inner).sum()
        case Score.concat:
            return (parts["score.weight"][0] * torch.tanh(parts["both.weight"] @ torch.cat((q, k)))).sum()
        case Score.cosine:
            return dot / (q.norm() * k.norm()) / parts["log_temperature"].exp()
        case Score.distance:
            return -(q - k).square().sum() / (2 * parts["log_sigma"].exp().square())
        case Score.uniform:
            return q.new_zeros(())
    # Without an equation here: a pair alone must give the same score as among others.
    return scores(score, q.view(1, 1, 1, -1), k.view(1, 1, 1, -1)).squeeze()


def test_every_score_has_a_class() -> None:
    assert set(SCORES) == set(Score)


@pytest.mark.parametrize("name", Score)
def test_equals_a_loop_over_pairs(name: Score) -> None:
    score, (q, k) = build(name), queries_keys()
    found = scores(score, q, k)
    assert found.shape == (B, H, Q, K)
    for b, h, i, j in torch.cartesian_prod(*map(torch.arange, (B, H, Q, K))).tolist():
        torch.testing.assert_close(found[b, h, i, j], by_hand(score, q[b, h, i], k[b, h, j]))


@pytest.mark.parametrize("name", TWO_WIDTHS)
def test_queries_and_keys_of_other_widths(name: Score) -> None:
    score, (q, k) = build(name, 6, 4), queries_keys(6, 4)
    found = scores(score, q, k)
    for i, j in torch.cartesian_prod(torch.arange(Q), torch.arange(K)).tolist():
        torch.testing.assert_close(found[1, 2, i, j], by_hand(score, q[1, 2, i], k[1, 2, j]))


@pytest.mark.parametrize("name", sorted(set(Score) - set(TWO_WIDTHS), key=lambda score: score.name))
def test_what_needs_one_width_says_so(name: Score) -> None:
    with pytest.raises(
        ValueError, match=rf"attention.score={name.name}: queries of width 6 and keys of width 4; expec"
    ):
        build(name, 6, 4)


@pytest.mark.parametrize("name", FUSABLE)
def test_a_dot_product_gives_the_score_but_for_what_keys_have_in_common(name: Score) -> None:
    score, (q, k) = build(name), queries_keys()
    q_, k_, scale = score.as_dot_product(q, k)
    left = scale * q_ @ k_.transpose(-2, -1) - scores(score, q, k)
    torch.testing.assert_close(left, left[..., :1].expand_as(left))


@pytest.mark.parametrize("name", Score)
def test_gradients(name: Score) -> None:
    score, (q, k) = build(name), queries_keys()
    parameters = list(score.parameters())
    inputs = [q.requires_grad_(), k.requires_grad_(), *parameters]
    assert torch.autograd.gradcheck(lambda q, k, *_: scores(score, q, k), inputs)


@pytest.mark.parametrize("name", Score)
def test_permuting_keys_permutes_scores(name: Score) -> None:
    score, (q, k) = build(name), queries_keys()
    order = torch.randperm(K)
    torch.testing.assert_close(scores(score, q, k[:, :, order]), scores(score, q, k)[..., order])


@pytest.mark.parametrize("name", [Score.additive, Score.concat])
@pytest.mark.parametrize("queries", [1, 3])
def test_a_few_queries_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch, name: Score, queries: int) -> None:
    score, (q, k) = build(name), queries_keys()
    inputs = [q.requires_grad_(), k.requires_grad_(), *score.parameters()]
    target = torch.randn(B, H, Q, K, dtype=torch.double)
    whole = torch.autograd.grad((scores(score, q, k) * target).sum(), inputs)
    monkeypatch.setattr("attnbench.nn.scoring._MAX_BLOCK_ELEMENTS", queries * B * H * K * D)
    parts = torch.autograd.grad((scores(score, q, k) * target).sum(), inputs)
    for found, wanted in zip(parts, whole, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", [Score.additive, Score.concat])
def test_the_hidden_layer_is_never_held_whole(name: Score) -> None:
    """What autograd keeps for the backward pass is smaller than one number for each query, key and hidden unit."""
    score = build_score(64, 64, AttentionConfig(score=name))
    q, k = torch.randn(1, 2, 128, 64, requires_grad=True), torch.randn(1, 2, 128, 64, requires_grad=True)
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scores(score, q, k).sum()
    assert sum(kept.values()) < 2 * 128 * 128 * 64 / 10


@pytest.mark.parametrize("inside", [False, True], ids=["backward outside autocast", "inside"])
@pytest.mark.parametrize("name", [Score.additive, Score.concat])
def test_gradients_under_autocast_are_as_good_as_those_of_autograd(name: Score, inside: bool) -> None:
    """A key's gradient is a sum over queries: over 512 of them, one bfloat16 term at a time, it was 2.7 % off."""
    torch.manual_seed(0)
    queries, width = 512, 32
    score = build_score(width, width, AttentionConfig(score=name)).float()
    q, k = torch.randn(1, 1, queries, width), torch.randn(1, 1, queries, width)
    target = (torch.randn(1, 1, queries, queries) + 0.5) * 1e-3
    v_A = score.score.weight[0]

    def by_autograd(q: Tensor, prepared: Tensor) -> Tensor:
        weight = score.query.weight if name is Score.additive else score.both.weight[:, :width]
        return torch.tanh((q @ weight.T).unsqueeze(-2) + prepared.unsqueeze(-3)) @ v_A.to(prepared.dtype)

    def gradients(function: Any, is_mixed: bool, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        score.to(dtype)
        leaves = [q.to(dtype).requires_grad_(), k.to(dtype).requires_grad_()]
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            found = function(leaves[0], score.prepare_keys(leaves[1]))
            if not inside:
                found = found.to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed and inside):
            found_grads = torch.autograd.grad((found * target.to(dtype)).sum(), leaves)
        return [gradient.double() for gradient in found_grads]

    exact = gradients(by_autograd, is_mixed=False, dtype=torch.float64)
    plain, ours = gradients(by_autograd, is_mixed=True), gradients(score, is_mixed=True)
    for wanted, theirs, found in zip(exact, plain, ours, strict=True):
        assert (found - wanted).norm() <= (theirs - wanted).norm()
        assert (found - wanted).norm() < 0.005 * wanted.norm()


@pytest.mark.parametrize(("hidden", "width"), [(None, D), (9, 9)])
def test_additive_width(hidden: int | None, width: int) -> None:
    score = build(Score.additive, d_hidden=hidden)
    assert isinstance(score, Additive)
    assert score.query.weight.shape == (width, D)


@pytest.mark.parametrize("learned", [False, True])
def test_distance_has_a_width_fixed_or_learned(learned: bool) -> None:
    score = build(Score.distance, sigma=0.5, learn_sigma=learned)
    q = torch.zeros(1, 1, 1, D, dtype=torch.double)
    k = torch.ones(1, 1, 1, D, dtype=torch.double)
    assert scores(score, q, k).item() == pytest.approx(-D / (2 * 0.25))
    assert len(list(score.parameters())) == learned
    assert bool(score.state_dict()) == learned


def test_distance_divides_as_scaled_dot_does_by_default() -> None:
    q, k = queries_keys()
    q, k = torch.nn.functional.normalize(q, dim=-1), torch.nn.functional.normalize(k, dim=-1)
    weights = scores(build(Score.distance), q, k).softmax(-1)  # of vectors of one length they are the same
    torch.testing.assert_close(weights, scores(build(Score.scaled_dot), q, k).softmax(-1))


def test_cosine_starts_from_its_temperature_and_ignores_lengths() -> None:
    score, (q, k) = build(Score.cosine, cosine_temperature=0.2), queries_keys()
    torch.testing.assert_close(scores(score, 3 * q, k / 7), scores(score, q, k))
    assert scores(score, q, q).diagonal(dim1=-2, dim2=-1).allclose(torch.tensor(5.0, dtype=torch.double))


def test_what_is_fused() -> None:
    computed = {Score.dot, Score.scaled_dot, Score.general, Score.cosine, Score.distance, Score.uniform}
    assert computed <= set(FUSABLE)
    assert not {Score.additive, Score.concat} & set(FUSABLE)
