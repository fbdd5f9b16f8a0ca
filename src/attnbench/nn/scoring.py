"""Scoring functions: how well a key matches a query. They only score; nn/attention.py does all the rest."""

# Shapes: B batch, H heads, Q queries, K keys, D width of a head, A width of the additive score's hidden layer

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from attnbench.config.attention import AttentionConfig, Score
from attnbench.nn.autocast import to_exact, without_autocast
from attnbench.nn.gradient_buffer import Gradient, gradient_of

_tanh_backward = torch.ops.aten.tanh_backward.grad_input
SCORES: dict[Score, type[ScoringFunction]] = {}
_CHUNK = 2**19  # numbers of an additive score's hidden layer at once: what a core's cache holds


class DotProduct(NamedTuple):
    """Scores as scale * q.k, for kernels that compute nothing else."""

    q_BHQD: Tensor
    k_BHKD: Tensor
    scale: float


class ScoringFunction(nn.Module, ABC):
    """A match between queries and keys; a subclass joins the registry by naming its Score."""

    fusable: ClassVar[bool] = False  # whether `as_dot_product` knows an answer

    def __init_subclass__(cls, score: Score | None = None) -> None:
        super().__init_subclass__()
        if score is not None:
            SCORES[score] = cls

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__()
        self.d_q, self.d_k = d_q, d_k

    def prepare(self, k_BHKD: Tensor) -> Tensor:
        """What `forward` takes for keys: whatever needs no query, computed once for keys that are asked many times."""
        return k_BHKD

    @abstractmethod
    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """scores_BHQK: any real number, higher for a better match; `k_BHKD` is what `prepare` made of the keys."""

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Queries and keys whose dot products are the scores, but for what all keys of a query have in common."""
        raise NotImplementedError


class _Fusable(ScoringFunction):
    """A score that a dot product computes."""

    fusable = True

    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """scores_BHQK = scale * q.k."""
        q_BHQD, k_BHKD, scale = self.as_dot_product(q_BHQD, k_BHKD)
        # The queries are scaled, not the scores: K / D times fewer numbers.
        return (q_BHQD * scale) @ k_BHKD.transpose(-2, -1)


class _OneWidth(_Fusable):
    """A score of queries and keys that live in one space."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        if d_q != d_k:
            raise ValueError(
                f"attention.score={config.score.name}: queries of width {d_q} and keys of width {d_k};"
                " expected one width, or the score general, additive or concat"
            )


class Dot(_OneWidth, score=Score.dot):
    """q.k: Luong et al. 2015, equation 8, "dot"."""

    scale = 1.0

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """As it is."""
        return DotProduct(q_BHQD, k_BHKD, self.scale)


class ScaledDot(Dot, score=Score.scaled_dot):
    """q.k / sqrt(d_k): Vaswani et al. 2017, equation 1."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        self.scale = d_k**-0.5


class General(_Fusable, score=Score.general):
    """q.W k, bilinear; queries and keys may differ in width: Luong et al. 2015, equation 8, "general"."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        self.weight = nn.Linear(d_q, d_k, bias=False)

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """The queries taken to where the keys are."""
        return DotProduct(self.weight(q_BHQD), k_BHKD, 1.0)


class Cosine(_OneWidth, score=Score.cosine):
    """cos(q, k) / temperature, which is learned: Graves et al. 2014, equations 5 and 6 (their beta is its inverse)."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        # In the logarithm, so that it stays above zero.
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.temperature)))

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Of vectors of length one; the temperature is in the queries, being no constant."""
        q_BHQD = F.normalize(q_BHQD, dim=-1) * torch.exp(-self.log_temperature).to(q_BHQD.dtype)
        return DotProduct(q_BHQD, F.normalize(k_BHKD, dim=-1), 1.0)


class Distance(_OneWidth, score=Score.distance):
    """-|q - k|^2 / (2 sigma^2), a Gaussian kernel: Nadaraya-Watson regression as in d2l.ai, chapter 11.2.

    sigma^2 is by default sqrt(d_k), which divides q.k as scaled dot does.
    """

    log_sigma: Tensor

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        log_sigma = torch.tensor(math.log(d_k**0.25 if config.sigma is None else config.sigma))
        if config.learn_sigma:
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma, persistent=False)

    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """scores_BHQK, from squared norms and one matrix product."""
        half_BHQ1 = 0.5 * q_BHQD.square().sum(-1, keepdim=True)
        half_BH1K = 0.5 * k_BHKD.square().sum(-1).unsqueeze(-2)
        return (q_BHQD @ k_BHKD.transpose(-2, -1) - half_BHQ1 - half_BH1K) * self._precision(q_BHQD)

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """With -|k|^2 / 2 as a coordinate more of k; |q|^2 is the same for every key."""
        half_BHK1 = -0.5 * k_BHKD.square().sum(-1, keepdim=True)
        q_BHQD = torch.cat((q_BHQD, torch.ones_like(q_BHQD[..., :1])), dim=-1) * self._precision(q_BHQD)
        return DotProduct(q_BHQD, torch.cat((k_BHKD, half_BHK1), dim=-1), 1.0)

    def _precision(self, like: Tensor) -> Tensor:
        return torch.exp(-2 * self.log_sigma).to(like.dtype)


class Uniform(_Fusable, score=Score.uniform):
    """Zero: every key counts the same. What attention is worth is what is lost without it."""

    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """scores_BHQK, all zero."""
        return (0 * q_BHQD[..., :1]).expand(*q_BHQD.shape[:-1], k_BHKD.shape[-2]) + 0 * k_BHKD[..., :1].transpose(
            -2, -1
        )

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Return zero queries and keys of one coordinate, with a scale of one.

        A scale of zero would not do: a kernel scales masked scores too, and 0 times -inf is NaN.
        """
        return DotProduct(0 * q_BHQD[..., :1], 0 * k_BHKD[..., :1], 1.0)


class Additive(ScoringFunction, score=Score.additive):
    """v.tanh(W q + U k), shared by all heads: Bahdanau et al. 2015, appendix A.1.2."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        hidden = config.hidden or d_k
        self.query = nn.Linear(d_q, hidden, bias=False)
        self.key = nn.Linear(d_k, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def prepare(self, k_BHKD: Tensor) -> Tensor:
        """Compute U k, in float32 at least: the gradients of all steps of a decoder add up in it."""
        return to_exact(self.key(k_BHKD))

    def forward(self, q_BHQD: Tensor, k_BHKA: Tensor) -> Tensor:
        """scores_BHQK, without ever holding B x H x Q x K x A numbers."""
        q_BHQA = self.query(q_BHQD)
        return _tanh_score(q_BHQA, k_BHKA, self.score.weight[0])


class Concat(ScoringFunction, score=Score.concat):
    """v.tanh(W [q; k]): Luong et al. 2015, equation 8, "concat": additive, with one matrix that starts as one."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        hidden = config.hidden or d_k
        self.both = nn.Linear(d_q + d_k, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def prepare(self, k_BHKD: Tensor) -> Tensor:
        """Compute the keys' part of W [q; k], which is a sum, in float32 at least as in `Additive.prepare`."""
        return to_exact(F.linear(k_BHKD, self.both.weight[:, self.d_q :]))

    def forward(self, q_BHQD: Tensor, k_BHKA: Tensor) -> Tensor:
        """scores_BHQK, without ever holding B x H x Q x K x A numbers."""
        q_BHQA = F.linear(q_BHQD, self.both.weight[:, : self.d_q])
        return _tanh_score(q_BHQA, k_BHKA, self.score.weight[0])


def _tanh_score(q_BHQA: Tensor, k_BHKA: Tensor, v_A: Tensor) -> Tensor:
    """Compute v.tanh(q + k) of every query and key, in float32 at least, whatever autocast says.

    Args:
        q_BHQA: projected queries.
        k_BHKA: projected keys, which may be shared (nn/gradient_buffer.py).
        v_A: the score's vector.

    Returns:
        scores_BHQK in float32, or float64 for such inputs. A gradient of the keys is a sum over queries, one term at a
        time: in bfloat16 it would lose a digit where there are some hundred.
    """
    with without_autocast(q_BHQA.device.type):
        parts = (to_exact(part) for part in (q_BHQA, k_BHKA, v_A.to(q_BHQA.dtype)))
        scores_BHQK: Tensor = _TanhScore.apply(*parts, gradient_of(k_BHKA))
    return scores_BHQK


class _TanhScore(torch.autograd.Function):
    """v.tanh(q + k) of every query and key, a block at a time that stays in a core's cache.

    tanh is computed again in the backward pass: to keep it would take B x H x Q x K x A numbers. Below, N is B x H.
    """

    @staticmethod
    def forward(ctx: Any, q_BHQA: Tensor, k_BHKA: Tensor, v_A: Tensor, gradient: Gradient | None) -> Tensor:
        """scores_BHQK."""
        ctx.save_for_backward(q_BHQA, k_BHKA, v_A)
        ctx.gradient = gradient
        scores_BHQK = q_BHQA.new_empty(*q_BHQA.shape[:-1], k_BHKA.shape[-2])
        scores_NQK = scores_BHQK.flatten(0, 1)
        for rows, queries, tanh_NQKA in _blocks(q_BHQA, k_BHKA):
            scores_NQK[rows, queries] = (tanh_NQKA.flatten(0, -2) @ v_A[:, None]).view(tanh_NQKA.shape[:-1])
        return scores_BHQK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHQK: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        """Compute the gradients of q, k and v."""
        # A backward pass may run inside autocast, which would take the products to its dtype.
        with without_autocast(grad_BHQK.device.type):
            grad_q_BHQA, grad_k_BHKA, grad_v_A = _tanh_score_gradients(ctx, grad_BHQK)
        return grad_q_BHQA, grad_k_BHKA if ctx.gradient is None else None, grad_v_A, None


def _tanh_score_gradients(ctx: Any, grad_BHQK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q_BHQA, k_BHKA, v_A = ctx.saved_tensors
    grad_k_BHKA = k_BHKA.new_zeros(k_BHKA.shape) if ctx.gradient is None else ctx.gradient.sum()
    grad_q_BHQA, grad_v_A = q_BHQA.new_empty(q_BHQA.shape), torch.zeros_like(v_A)
    grad_q_NQA, grad_k_NKA, grad_NQK = (x.flatten(0, 1) for x in (grad_q_BHQA, grad_k_BHKA, grad_BHQK))
    for rows, queries, tanh_NQKA in _blocks(q_BHQA, k_BHKA):
        part_NQK = grad_NQK[rows, queries].contiguous()
        grad_v_A += (part_NQK.view(1, -1) @ tanh_NQKA.flatten(0, -2))[0]
        # v (1 - tanh^2), in place.
        slope_NQKA = _tanh_backward(v_A.expand_as(tanh_NQKA), tanh_NQKA, grad_input=tanh_NQKA)
        grad_q_NQA[rows, queries] = (part_NQK.unsqueeze(-2) @ slope_NQKA).squeeze(-2)
        for slope_NKA, part_NK in zip(slope_NQKA.unbind(1), part_NQK.unbind(1), strict=True):
            grad_k_NKA[rows].addcmul_(slope_NKA, part_NK.unsqueeze(-1))
    return grad_q_BHQA, grad_k_BHKA, grad_v_A


def _blocks(q_BHQA: Tensor, k_BHKA: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """tanh(q + k) of some rows and queries at a time, each overwriting the one before."""
    q_NQA, k_NKA = q_BHQA.flatten(0, 1), k_BHKA.flatten(0, 1)
    (rows, queries, width), keys = q_NQA.shape, k_NKA.shape[1]
    of_a_query = max(1, keys * width)
    some_rows = max(1, min(rows, _CHUNK // of_a_query))
    some_queries = max(1, min(queries, _CHUNK // (some_rows * of_a_query)))
    room = q_NQA.new_empty(some_rows * some_queries * keys * width)
    for row in range(0, rows, some_rows):
        for query in range(0, queries, some_queries):
            here, now = slice(row, row + some_rows), slice(query, query + some_queries)
            q_NQ1A, k_N1KA = q_NQA[here, now].unsqueeze(2), k_NKA[here].unsqueeze(1)
            shape = (len(q_NQ1A), q_NQ1A.shape[1], keys, width)
            tanh_NQKA = room[: math.prod(shape)].view(shape)
            torch.add(q_NQ1A, k_N1KA, out=tanh_NQKA)
            yield here, now, tanh_NQKA.tanh_()


def build_score(d_q: int, d_k: int, config: AttentionConfig) -> ScoringFunction:
    """The scoring function that `config.score` names, for queries and keys of these widths in each head."""
    return SCORES[config.score](d_q, d_k, config)
