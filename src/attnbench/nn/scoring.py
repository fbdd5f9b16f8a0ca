"""Scoring functions: how well a key matches a query. Masks, weights and kernels are in nn/attention.py."""

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

from attnbench.config import ConfigError, Fault
from attnbench.config.attention import AttentionConfig, Score
from attnbench.config.targets import import_target
from attnbench.nn.autocast import disable_autocast, to_at_least_float32
from attnbench.nn.gradient_buffer import GradientBuffer, get_gradient_buffer

_tanh_backward = torch.ops.aten.tanh_backward.grad_input
SCORES: dict[Score, type[ScoringFunction]] = {}
_MAX_BLOCK_ELEMENTS = 2**19  # size of the hidden layer's block: fits the cache of a core


class DotProduct(NamedTuple):
    """Scores written as scale * q.k, for fused kernels."""

    q_BHQD: Tensor
    k_BHKD: Tensor
    scale: float


class ScoringFunction(nn.Module, ABC):
    """Base class of scoring functions; a subclass registers by its `Score`."""

    is_fusable: ClassVar[bool] = False  # whether `as_dot_product` is implemented

    def __init_subclass__(cls, score: Score | None = None) -> None:
        super().__init_subclass__()
        if score is not None:
            SCORES[score] = cls

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__()
        self.d_q, self.d_k = d_q, d_k
        if d_q != d_k and config.target is None and not config.score.allows_different_widths:
            raise ValueError(
                f"attention.score={config.score.name}: queries of width {d_q} and keys of width {d_k};"
                " expected one width, or the score general, additive or concat"
            )

    def prepare_keys(self, k_BHKD: Tensor) -> Tensor:
        """Precompute the part of the score that needs no query; `forward` takes the result as keys."""
        return k_BHKD

    @abstractmethod
    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """Return scores_BHQK: any real numbers, higher for a better match.

        Args:
            q_BHQD: queries.
            k_BHKD: keys, as `prepare_keys` returns them.
        """

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Return queries and keys whose scaled dot products are the scores, up to a constant for each query.

        Args:
            q_BHQD: queries.
            k_BHKD: keys, as `prepare_keys` returns them.
        """
        raise NotImplementedError


class _DotProductScore(ScoringFunction):
    """Base class of scores that are dot products of transformed queries and keys."""

    is_fusable = True

    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """Return scores_BHQK = scale * q.k."""
        q_BHQD, k_BHKD, scale = self.as_dot_product(q_BHQD, k_BHKD)
        # The queries are scaled, not the scores: K / D times fewer numbers.
        return (q_BHQD * scale) @ k_BHKD.transpose(-2, -1)


class Dot(_DotProductScore, score=Score.dot):
    """Dot product q.k (Luong et al. 2015, equation 8, "dot")."""

    scale = 1.0

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Return queries and keys unchanged."""
        return DotProduct(q_BHQD, k_BHKD, self.scale)


class ScaledDot(Dot, score=Score.scaled_dot):
    """Scaled dot product q.k / sqrt(d_k) (Vaswani et al. 2017, equation 1)."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        self.scale = d_k**-0.5


class General(_DotProductScore, score=Score.general):
    """Bilinear score q.W k; queries and keys may differ in width (Luong et al. 2015, equation 8, "general")."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        self.weight = nn.Linear(d_q, d_k, bias=False)

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Return the queries projected to the space of the keys."""
        return DotProduct(self.weight(q_BHQD), k_BHKD, 1.0)


class Cosine(_DotProductScore, score=Score.cosine):
    """Cosine similarity cos(q, k) / temperature with a learned temperature (Graves et al. 2014, equations 5 and 6).

    The paper's beta is the inverse of the temperature.
    """

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        # The logarithm keeps the temperature positive.
        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.cosine_temperature)))

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Return normalized queries and keys; the learned temperature is multiplied into the queries."""
        q_BHQD = F.normalize(q_BHQD, dim=-1) * torch.exp(-self.log_temperature).to(q_BHQD.dtype)
        return DotProduct(q_BHQD, F.normalize(k_BHKD, dim=-1), 1.0)


class Distance(_DotProductScore, score=Score.distance):
    """Gaussian kernel -|q - k|^2 / (2 sigma^2): Nadaraya-Watson regression as in d2l.ai, chapter 11.2.

    By default sigma^2 = sqrt(d_k), which divides q.k by the same factor as the scaled dot product.
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
        """Return scores_BHQK, computed from squared norms and one matrix product."""
        half_BHQ1 = 0.5 * q_BHQD.square().sum(-1, keepdim=True)
        half_BH1K = 0.5 * k_BHKD.square().sum(-1).unsqueeze(-2)
        return (q_BHQD @ k_BHKD.transpose(-2, -1) - half_BHQ1 - half_BH1K) * self._compute_precision(q_BHQD)

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Return keys with -|k|^2 / 2 as an additional coordinate; |q|^2 is constant for a query and left out."""
        half_BHK1 = -0.5 * k_BHKD.square().sum(-1, keepdim=True)
        q_BHQD = torch.cat((q_BHQD, torch.ones_like(q_BHQD[..., :1])), dim=-1) * self._compute_precision(q_BHQD)
        return DotProduct(q_BHQD, torch.cat((k_BHKD, half_BHK1), dim=-1), 1.0)

    def _compute_precision(self, like: Tensor) -> Tensor:
        """Return 1 / sigma^2 in the dtype of `like`."""
        return torch.exp(-2 * self.log_sigma).to(like.dtype)


class Uniform(_DotProductScore, score=Score.uniform):
    """Constant score 0: every key gets the same weight; the ablation of attention."""

    def forward(self, q_BHQD: Tensor, k_BHKD: Tensor) -> Tensor:
        """Return zero scores_BHQK."""
        return (0 * q_BHQD[..., :1]).expand(*q_BHQD.shape[:-1], k_BHKD.shape[-2]) + 0 * k_BHKD[..., :1].transpose(
            -2, -1
        )

    def as_dot_product(self, q_BHQD: Tensor, k_BHKD: Tensor) -> DotProduct:
        """Return zero queries and keys of one coordinate, with a scale of one.

        A scale of zero would not do: a kernel scales masked scores too, and 0 times -inf is NaN.
        """
        return DotProduct(0 * q_BHQD[..., :1], 0 * k_BHKD[..., :1], 1.0)


class Additive(ScoringFunction, score=Score.additive):
    """Additive score v.tanh(W q + U k), with v, W and U shared by all heads (Bahdanau et al. 2015, appendix A.1.2)."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        hidden = config.d_hidden or d_k
        self.query = nn.Linear(d_q, hidden, bias=False)
        self.key = nn.Linear(d_k, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def prepare_keys(self, k_BHKD: Tensor) -> Tensor:
        """Compute U k, in float32 at least: the gradients of all steps of a decoder add up in it."""
        return to_at_least_float32(self.key(k_BHKD))

    def forward(self, q_BHQD: Tensor, k_BHKA: Tensor) -> Tensor:
        """Return scores_BHQK without storing B x H x Q x K x A numbers."""
        q_BHQA = self.query(q_BHQD)
        return _compute_tanh_score(q_BHQA, k_BHKA, self.score.weight[0])


class Concat(ScoringFunction, score=Score.concat):
    """Score v.tanh(W [q; k]) (Luong et al. 2015, equation 8, "concat"): additive, with one initialized matrix."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__(d_q, d_k, config)
        hidden = config.d_hidden or d_k
        self.both = nn.Linear(d_q + d_k, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def prepare_keys(self, k_BHKD: Tensor) -> Tensor:
        """Compute the keys' part of W [q; k], which is a sum, in float32 at least as in `Additive.prepare`."""
        return to_at_least_float32(F.linear(k_BHKD, self.both.weight[:, self.d_q :]))

    def forward(self, q_BHQD: Tensor, k_BHKA: Tensor) -> Tensor:
        """Return scores_BHQK without storing B x H x Q x K x A numbers."""
        q_BHQA = F.linear(q_BHQD, self.both.weight[:, : self.d_q])
        return _compute_tanh_score(q_BHQA, k_BHKA, self.score.weight[0])


def _compute_tanh_score(q_BHQA: Tensor, k_BHKA: Tensor, v_A: Tensor) -> Tensor:
    """Compute v.tanh(q + k) for every query and key, in float32 or float64 also under autocast.

    Args:
        q_BHQA: projected queries.
        k_BHKA: projected keys, possibly with a gradient buffer (nn/gradient_buffer.py).
        v_A: weight vector of the score.

    Returns:
        scores_BHQK in float32 or float64. The gradient of the keys sums over queries, one term at a time; in bfloat16
        that sum loses a digit after some hundred terms.
    """
    with disable_autocast(q_BHQA.device.type):
        parts = (to_at_least_float32(part) for part in (q_BHQA, k_BHKA, v_A.to(q_BHQA.dtype)))
        scores_BHQK: Tensor = _TanhScore.apply(*parts, get_gradient_buffer(k_BHKA))
    return scores_BHQK


class _TanhScore(torch.autograd.Function):
    """v.tanh(q + k) for every query and key, in blocks that fit in a core's cache.

    The backward pass recomputes tanh: storing it would take B x H x Q x K x A numbers. N is B x H.
    """

    @staticmethod
    def forward(ctx: Any, q_BHQA: Tensor, k_BHKA: Tensor, v_A: Tensor, gradient: GradientBuffer | None) -> Tensor:
        """Return scores_BHQK."""
        ctx.save_for_backward(q_BHQA, k_BHKA, v_A)
        ctx.gradient = gradient
        scores_BHQK = q_BHQA.new_empty(*q_BHQA.shape[:-1], k_BHKA.shape[-2])
        scores_NQK = scores_BHQK.flatten(0, 1)
        for rows, queries, tanh_NQKA in _iterate_blocks(q_BHQA, k_BHKA):
            scores_NQK[rows, queries] = (tanh_NQKA.flatten(0, -2) @ v_A[:, None]).view(tanh_NQKA.shape[:-1])
        return scores_BHQK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHQK: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        """Compute the gradients of q, k and v."""
        # A backward pass may run inside autocast, which would change the dtype of the products.
        with disable_autocast(grad_BHQK.device.type):
            grad_q_BHQA, grad_k_BHKA, grad_v_A = _compute_tanh_score_gradients(ctx, grad_BHQK)
        return grad_q_BHQA, grad_k_BHKA if ctx.gradient is None else None, grad_v_A, None


def _compute_tanh_score_gradients(ctx: Any, grad_BHQK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of q, k and v, block by block."""
    q_BHQA, k_BHKA, v_A = ctx.saved_tensors
    grad_k_BHKA = k_BHKA.new_zeros(k_BHKA.shape) if ctx.gradient is None else ctx.gradient.get_sum()
    grad_q_BHQA, grad_v_A = q_BHQA.new_empty(q_BHQA.shape), torch.zeros_like(v_A)
    grad_q_NQA, grad_k_NKA, grad_NQK = (x.flatten(0, 1) for x in (grad_q_BHQA, grad_k_BHKA, grad_BHQK))
    for rows, queries, tanh_NQKA in _iterate_blocks(q_BHQA, k_BHKA):
        part_NQK = grad_NQK[rows, queries].contiguous()
        grad_v_A += (part_NQK.view(1, -1) @ tanh_NQKA.flatten(0, -2))[0]
        # v (1 - tanh^2), in place.
        slope_NQKA = _tanh_backward(v_A.expand_as(tanh_NQKA), tanh_NQKA, grad_input=tanh_NQKA)
        grad_q_NQA[rows, queries] = (part_NQK.unsqueeze(-2) @ slope_NQKA).squeeze(-2)
        for slope_NKA, part_NK in zip(slope_NQKA.unbind(1), part_NQK.unbind(1), strict=True):
            grad_k_NKA[rows].addcmul_(slope_NKA, part_NK.unsqueeze(-1))
    return grad_q_BHQA, grad_k_BHKA, grad_v_A


def _iterate_blocks(q_BHQA: Tensor, k_BHKA: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield row slice, query slice and tanh(q + k) of each block; each block overwrites the one before."""
    q_NQA, k_NKA = q_BHQA.flatten(0, 1), k_BHKA.flatten(0, 1)
    (rows, queries, width), keys = q_NQA.shape, k_NKA.shape[1]
    of_a_query = max(1, keys * width)
    some_rows = max(1, min(rows, _MAX_BLOCK_ELEMENTS // of_a_query))
    some_queries = max(1, min(queries, _MAX_BLOCK_ELEMENTS // (some_rows * of_a_query)))
    buffer = q_NQA.new_empty(some_rows * some_queries * keys * width)
    for row in range(0, rows, some_rows):
        for query in range(0, queries, some_queries):
            here, now = slice(row, row + some_rows), slice(query, query + some_queries)
            q_NQ1A, k_N1KA = q_NQA[here, now].unsqueeze(2), k_NKA[here].unsqueeze(1)
            shape = (len(q_NQ1A), q_NQ1A.shape[1], keys, width)
            tanh_NQKA = buffer[: math.prod(shape)].view(shape)
            torch.add(q_NQ1A, k_N1KA, out=tanh_NQKA)
            yield here, now, tanh_NQKA.tanh_()


def build_score(d_q: int, d_k: int, config: AttentionConfig) -> ScoringFunction:
    """Build the scoring function that `config.target` or `config.score` names.

    Args:
        d_q: width of the queries.
        d_k: width of the keys.
        config: options of attention.

    Raises:
        ConfigError: `config.target` cannot be imported, or is not a subclass of ScoringFunction.
    """
    if config.target is None:
        return SCORES[config.score](d_q, d_k, config)
    target = import_target(config.target, "attention.target")
    if not (isinstance(target, type) and issubclass(target, ScoringFunction)):
        expected = "expected a subclass of attnbench.nn.scoring.ScoringFunction"
        raise ConfigError([Fault("attention.target", config.target, expected)])
    return target(d_q, d_k, config)
