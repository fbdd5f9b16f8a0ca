from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from attnbench.config.attention import AttentionConfig, Backend, Score
from attnbench.config.model import BlocksConfig
from attnbench.nn import attention as attention_module
from attnbench.nn.attention import Attention, AttentionOutput, MultiHeadAttention
from attnbench.nn.scoring import SCORES

B, H, L, D = 3, 2, 5, 4
M = H * D
FUSED_SCORES = [score for score in Score if SCORES[score].is_fusable]


def attention(score: Score, backend: Backend = Backend.auto, dropout: float = 0.0) -> Attention:
    torch.manual_seed(0)
    return Attention(D, D, AttentionConfig(score=score, backend=backend, dropout=dropout)).double()


def attend(module: Attention, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> AttentionOutput:
    found: AttentionOutput = module(q, module.score.prepare_keys(k), v, **options)
    return found


def multi_head(score: Score = Score.scaled_dot, d_k: int | None = None, d_v: int | None = None) -> MultiHeadAttention:
    torch.manual_seed(0)
    model = BlocksConfig(d_model=M, num_heads=H, d_k=d_k, d_v=d_v)
    module = MultiHeadAttention(model, AttentionConfig(score=score)).double()
    torch.nn.init.normal_(module.qkv.bias)
    torch.nn.init.normal_(module.output_projection.bias)
    return module


def qkv(keys: int = L) -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(B, H, n, D, dtype=torch.double, requires_grad=True) for n in (L, keys, keys)]


def padding(keys: int = L) -> Tensor:
    lengths = torch.tensor([keys, keys - 2, 1])
    return (torch.arange(keys) < lengths[:, None])[:, None, None, :]


MASKS: dict[str, Tensor | None] = {
    "none": None,
    "padding": padding(),
    "each query its own": torch.rand(B, 1, L, L, generator=torch.Generator().manual_seed(3)) < 0.6,
    "nothing allowed": torch.zeros(B, 1, 1, L, dtype=torch.bool),
}


def by_loops(score: Attention, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """softmax over the allowed keys of each query, one at a time."""
    scores = score.score(q, score.score.prepare_keys(k))
    context = torch.zeros_like(q) + 0 * (q.sum() + k.sum() + v.sum())  # in the graph even where nothing is seen
    queries, keys = q.shape[2], k.shape[2]
    allowed = torch.ones(B, H, queries, keys, dtype=torch.bool) if mask is None else mask.expand_as(scores)
    for b, h, i in itertools.product(range(B), range(H), range(queries)):
        seen = [j for j in range(keys) if allowed[b, h, i, j] and (not causal or j <= i + keys - queries)]
        if seen:
            weights = torch.exp(scores[b, h, i, seen])
            context[b, h, i] = (weights / weights.sum()) @ v[b, h, seen]
    return context


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("score", Score)
def test_equals_loops(score: Score, mask: Tensor | None, causal: bool, backend: Backend) -> None:
    module, inputs = attention(score, backend), qkv()
    context, weights = attend(module, *inputs, mask=mask, is_causal=causal)
    assert weights is None
    expected = by_loops(module, *inputs, mask, causal)
    torch.testing.assert_close(context, expected)
    target = torch.randn_like(context)
    found_grads = torch.autograd.grad((context * target).sum(), inputs)
    expected_grads = torch.autograd.grad((expected * target).sum(), inputs)
    for found, wanted in zip(found_grads, expected_grads, strict=True):
        torch.testing.assert_close(found, wanted)


# The kernel changes its blocks with the length: from 48 keys on, and from 128.
LENGTHS = [7, 47, 48, 64, 129]
# How far the two paths may be apart: bfloat16 has 8 bits, and the explicit path rounds its weights to them.
CLOSE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 0.05}


def long_mask(kind: str, queries: int, keys: int) -> Tensor | None:
    match kind:
        case "none":
            return None
        case "padding":
            return (torch.arange(keys) < torch.tensor([keys, keys // 2])[:, None])[:, None, None]
        case "each query its own":
            return torch.rand(2, 1, queries, keys, generator=torch.Generator().manual_seed(3)) < 0.6
        case "nothing allowed":
            return (torch.arange(2) == 0)[:, None, None, None].expand(2, 1, queries, keys)
    raise AssertionError(kind)


@pytest.mark.parametrize("dtype", CLOSE, ids=str)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("score", Score)
def test_both_paths_are_equal_at_every_length(score: Score, length: int, dtype: torch.dtype) -> None:
    """Context and gradients, for each mask, with and without causal attention, for queries at each offset.

    The offset is how many keys stand before the first query, as in decoding with a cache.
    """
    torch.manual_seed(0)
    backends = {backend: attention(score, backend).to(dtype) for backend in Backend}
    shapes = [(0, D), (0, 6), (3, D)] if SCORES[score].is_fusable else [(3, D)]
    for mask, is_causal, (offset, width) in itertools.product(MASKS, (False, True), shapes):
        queries = length - offset
        inputs = [torch.randn(2, 1, n, w).to(dtype).requires_grad_() for n, w in
                  ((queries, D), (length, D), (length, width))]  # fmt: skip
        target = torch.randn(2, 1, queries, width).to(dtype)
        found = {}
        for backend, module in backends.items():
            context = attend(module, *inputs, mask=long_mask(mask, queries, length), is_causal=is_causal).context
            gradients = torch.autograd.grad((context * target).sum(), inputs)
            found[backend] = [part.double() for part in (context, *gradients)]
        for fused, explicit in zip(found[Backend.auto], found[Backend.eager], strict=True):
            assert fused.isfinite().all(), (mask, is_causal, offset, width)
            apart = (fused - explicit).abs().max() / explicit.abs().max().clamp(min=1)
            assert apart < CLOSE[dtype], (mask, is_causal, offset, width)


@pytest.mark.parametrize("score", FUSED_SCORES)
def test_weights_are_those_that_made_the_context(score: Score) -> None:
    module, (q, k, v) = attention(score), qkv()
    fused, explicit = (
        attend(module, q, k, v, mask=padding()),
        attend(module, q, k, v, mask=padding(), need_weights=True),
    )
    torch.testing.assert_close(explicit.context, fused.context)
    torch.testing.assert_close(explicit.weights @ v, fused.context)
    torch.testing.assert_close(explicit.weights.sum(-1), torch.ones(B, H, L, dtype=torch.double))
    assert (explicit.weights[1, :, :, -2:] == 0).all()


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("score", Score)
def test_a_row_with_no_key_is_zero_forward_and_backward(score: Score, dtype: torch.dtype, need_weights: bool) -> None:
    module = attention(score).to(dtype)
    inputs = [x.detach().to(dtype).requires_grad_() for x in qkv()]
    mask = torch.ones(B, 1, L, L, dtype=torch.bool)
    mask[0, :, 2] = False
    mask[1] = False
    context, weights = attend(module, *inputs, mask=mask, need_weights=need_weights)
    assert (context[0, :, 2] == 0).all()
    assert (context[1] == 0).all()
    assert (context[0, :, 0] != 0).any()
    if weights is not None:
        assert (weights[1] == 0).all()
    gradients = torch.autograd.grad(context.float().square().sum(), inputs)
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert (gradient[1] == 0).all()
    for gradient in gradients[2:] if score is Score.uniform else gradients:  # queries and keys tell it nothing
        assert (gradient[0] != 0).any()


@pytest.mark.parametrize("score", Score)
def test_gradcheck_through_the_masked_softmax(score: Score) -> None:
    module, mask = attention(score, Backend.eager), MASKS["each query its own"]
    inputs = [x.detach()[:, :, :3].requires_grad_() for x in qkv()]
    assert mask is not None
    small = mask[:, :, :3, :3]
    assert torch.autograd.gradcheck(lambda *x: attend(module, *x, mask=small, is_causal=True).context, inputs)


@pytest.mark.parametrize("backend", Backend)
@pytest.mark.parametrize("mask", [None, padding(7)], ids=["none", "padding"])
@pytest.mark.parametrize("score", Score)
def test_causal_queries_are_the_last_places(score: Score, mask: Tensor | None, backend: Backend) -> None:
    module, (q, k, v) = attention(score, backend), qkv(keys=7)
    torch.testing.assert_close(
        attend(module, q, k, v, mask=mask, is_causal=True).context, by_loops(module, q, k, v, mask, True)
    )


@pytest.mark.parametrize("score", Score)
def test_path(score: Score) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    fusible = "fused" if score in FUSED_SCORES else "eager"
    plain, dropping = attention(score), attention(score, dropout=0.1)
    assert plain.select_path(cpu) == fusible
    assert plain.select_path(cpu, need_weights=True) == "eager"
    assert attention(score, Backend.eager).select_path(cpu) == "eager"
    assert (dropping.select_path(cpu), dropping.select_path(cuda)) == ("eager", fusible)
    assert dropping.eval().select_path(cpu) == fusible


@pytest.mark.parametrize("score", FUSED_SCORES)
def test_the_fused_path_calls_the_kernel_and_the_explicit_one_does_not(
    score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    kernel = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: calls.append(kwargs) or kernel(*args, **kwargs),
    )
    attend(attention(score), *qkv())
    assert len(calls) == 1
    attend(attention(score, Backend.eager), *qkv())
    attend(attention(score), *qkv(), need_weights=True)
    assert len(calls) == 1


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("score", FUSED_SCORES)
def test_mixed_precision_trains_in_float32_on_a_cpu(
    score: Score, mask: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtypes, module = [], attention(score).float()
    kernel = torch.nn.functional.scaled_dot_product_attention

    def recording(q: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        dtypes.append(q.dtype)
        return kernel(q, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recording)
    inputs, found = [part.detach().bfloat16() for part in qkv()], []
    for mixed in (True, False):
        given = [part.to(torch.bfloat16 if mixed else torch.float32, copy=True).requires_grad_() for part in inputs]
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            context = attend(module, *given, mask=mask).context
        context.float().square().sum().backward()
        found.append([context.float(), *(part.grad.float() for part in given if part.grad is not None)])
        assert context.dtype is given[2].dtype
    torch.testing.assert_close(found[0], found[1], rtol=0.05, atol=0.05)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        attend(module, *inputs, mask=mask)
    assert dtypes == [torch.float32, torch.float32, torch.bfloat16]


@pytest.mark.parametrize("width", [2, 7])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("score", FUSED_SCORES)
def test_the_kernel_is_given_one_width(
    score: Score, mask: Tensor | None, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "_MIN_FUSED_MASK_LENGTH", L)
    widths: set[int] = set()
    kernel = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *parts, **how: widths.update(part.shape[-1] for part in parts) or kernel(*parts, **how),
    )
    q, k, _ = qkv()
    v = torch.randn(B, H, L, width, dtype=torch.double, requires_grad=True)
    found = []
    for backend in Backend:
        context = attend(attention(score, backend), q, k, v, mask=mask).context
        found.append((context, *torch.autograd.grad(context.square().sum(), (q, k, v))))
    torch.testing.assert_close(*found)
    assert len(widths) == 1


@pytest.mark.parametrize("score", Score)
def test_dropout_drops_weights_in_training_alone(score: Score) -> None:
    module, (q, k, v) = attention(score, dropout=0.5), qkv()
    ones = torch.ones_like(v)
    dropped, weights = attend(module, q, k, ones, need_weights=True)
    assert dropped.std() > 0.1
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, L, dtype=torch.double))  # as they were before it
    torch.testing.assert_close(attend(module.eval(), q, k, ones).context, ones)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_equals_torch(cross: bool, causal: bool, need_weights: bool) -> None:
    ours = multi_head()
    theirs = torch.nn.MultiheadAttention(M, H, batch_first=True, dtype=torch.double)
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.output_projection.weight,
            "out_proj.bias": ours.output_projection.bias,
        }
    )
    x, memory = torch.randn(B, L, M, dtype=torch.double), torch.randn(B, L, M, dtype=torch.double)
    other = memory if cross else x
    blocked = torch.ones(L, L, dtype=torch.bool).triu(1) if causal else None
    expected, weights = theirs(
        x, other, other, key_padding_mask=~padding()[:, 0, 0], attn_mask=blocked, average_attn_weights=False
    )
    found = ours(x, memory if cross else None, mask=padding(), is_causal=causal, need_weights=need_weights)
    torch.testing.assert_close(found.context, expected)
    if need_weights:
        torch.testing.assert_close(found.weights, weights)


@pytest.mark.parametrize("score", Score)
def test_every_parameter_gets_a_gradient(score: Score) -> None:
    module = multi_head(score)
    x, memory = torch.randn(2, B, L, M, dtype=torch.double)
    for given in (None, memory):
        module.zero_grad()
        module(x, given).context.square().sum().backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("score", Score)
def test_permutation_equivariance(score: Score) -> None:
    module, x, order = multi_head(score), torch.randn(B, L, M, dtype=torch.double), torch.randperm(L)
    torch.testing.assert_close(module(x[:, order]).context, module(x).context[:, order])


@pytest.mark.parametrize("score", Score)
def test_a_projected_memory_is_as_good_as_the_memory(score: Score) -> None:
    module = multi_head(score)
    x, memory = torch.randn(2, B, L, M, dtype=torch.double)
    projected = module.project_memory(memory)
    torch.testing.assert_close(module(x, projected).context, module(x, memory).context)
    order = torch.tensor([2, 0])
    torch.testing.assert_close(module(x[order], projected.select(order)).context, module(x, memory).context[order])


@pytest.mark.parametrize("score", Score)
def test_steps_equal_the_whole_sequence(score: Score) -> None:
    module = multi_head(score)
    x_BJLM = torch.randn(2, 3, L, M, dtype=torch.double)
    whole = module(x_BJLM.flatten(0, 1), is_causal=True).context.view_as(x_BJLM)
    past = None
    for place in range(L):
        context, past = module.decode_step(x_BJLM[:, :, place], past)
        torch.testing.assert_close(context, whole[:, :, place])
