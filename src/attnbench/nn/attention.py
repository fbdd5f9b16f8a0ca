"""Attention: score, mask, weights, dropout and sum, in the one place of all of them; and its multi-head form."""

# Shapes: B batch, H heads, Q queries, K keys, D width of a query or key, E of a value, M d_model, L places,
#         W all heads side by side, J hypotheses of a sentence (in decoding)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Backend
from attnbench.config.model import BlocksConfig, Norm
from attnbench.nn.autocast import without_autocast
from attnbench.nn.dropout import Dropout
from attnbench.nn.gradient_buffer import product
from attnbench.nn.normalizers import build_normaliser
from attnbench.nn.positions import RelativePosition
from attnbench.nn.projections import BranchEnd, PackedLinear
from attnbench.nn.scoring import build_score

Path = Literal["fused", "explicit"]
_LONG = 48  # queries and keys from which on one width is worth the zeros that it takes


class AttentionOutput(NamedTuple):
    """What was attended to, and how much; the weights are those before dropout, None unless asked for."""

    context: Tensor
    weights: Tensor | None


class Attention(nn.Module):
    """weights(score(q, k)) v, by a fused kernel where the score allows it and nobody asks for the weights.

    `position` is that of a self-attention whose tokens know where they stand to each other.
    """

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig, position: RelativePosition | None = None) -> None:
        super().__init__()
        self.score = build_score(d_q, d_k, config)
        self.normaliser = build_normaliser(config)
        self.position = position
        self.dropout = Dropout(config.dropout)
        self.backend = config.backend

    def path(self, device: torch.device, need_weights: bool = False) -> Path:
        """Which path a call on `device` takes now (dropout depends on train or eval)."""
        # On a CPU, dropout sends PyTorch's fused kernel down a path slower than ours.
        dropout_is_fused = not self.dropout.active or device.type == "cuda"
        auto = self.backend is Backend.auto and not need_weights and dropout_is_fused
        placed = self.position is not None and self.position.needs_weights
        return "fused" if auto and self.score.fusable and self.normaliser.fusable and not placed else "explicit"

    def forward(
        self,
        q_BHQD: Tensor,
        k_BHKD: Tensor,
        v_BHKE: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        emphasis: Tensor | None = None,
        need_weights: bool = False,
    ) -> AttentionOutput:
        """context_BHQE and, if asked for, weights_BHQK.

        `k_BHKD` is what `score.prepare` makes of keys. `mask` is bool, broadcastable to BHQK, True where a query may
        attend. `causal`: the queries are the last Q of the K places and see none after their own. A query that may
        attend to nothing gets zeros. `emphasis`, broadcastable to BHQK, multiplies the weights.
        """
        queries, keys = q_BHQD.shape[-2], k_BHKD.shape[-2]
        # One query is the last place and sees everything; that is how decoding with a cache asks.
        causal = causal and queries > 1
        bias = None if self.position is None else self.position.bias(q_BHQD, keys)
        if emphasis is not None or self.path(q_BHQD.device, need_weights) == "explicit":
            allowed = _combine(mask, causal, queries, keys, q_BHQD.device)
            weights_BHQK = self._weights(q_BHQD, k_BHKD, bias, allowed)
            if emphasis is not None:
                weights_BHQK = weights_BHQK * emphasis
            return AttentionOutput(self._sum(weights_BHQK, v_BHKE), weights_BHQK if need_weights else None)
        # The kernel's own causal mask costs nothing, but stands alone and knows only squares.
        native = causal and mask is None and bias is None and queries == keys
        q_BHQD, k_BHKD, scale = self.score.as_dot_product(q_BHQD, k_BHKD)
        context_BHQE = _fused(
            q_BHQD,
            k_BHKD,
            v_BHKE,
            attn_mask=None if native else _added(bias, _combine(mask, causal, queries, keys, q_BHQD.device)),
            dropout_p=self.dropout.p if self.dropout.active else 0.0,
            is_causal=native,
            scale=scale,
        )
        return AttentionOutput(context_BHQE, None)

    def _weights(self, q_BHQD: Tensor, k_BHKD: Tensor, bias: Tensor | None, allowed: Tensor | None) -> Tensor:
        scores_BHQK: Tensor = self.score(q_BHQD, k_BHKD)
        if bias is not None:
            scores_BHQK = scores_BHQK + bias
        if allowed is None:
            weights_BHQK: Tensor = self.normaliser(scores_BHQK)
            return weights_BHQK
        # The lowest finite number instead of -inf: a row of -inf has a NaN softmax, and a NaN gradient even
        # where its result is not used. Such a row comes out somehow and is then cleared.
        lowest = torch.finfo(scores_BHQK.dtype).min
        weights_BHQK = self.normaliser(scores_BHQK.masked_fill(~allowed, lowest))
        return weights_BHQK.masked_fill(~allowed, 0.0)

    def _sum(self, weights_BHQK: Tensor, v_BHKE: Tensor) -> Tensor:
        dropped_BHQK: Tensor = self.dropout(weights_BHQK).to(v_BHKE.dtype)
        context_BHQE = product(dropped_BHQK, v_BHKE)
        own_BHQE = None if self.position is None else self.position.values(dropped_BHQK)
        return context_BHQE if own_BHQE is None else context_BHQE + own_BHQE


def _fused(q_BHQD: Tensor, k_BHKD: Tensor, v_BHKE: Tensor, **how: Any) -> Tensor:
    """context_BHQE by torch's kernel, its `scale` given.

    On a CPU alone: with values of another width than keys it would hold all scores, and zeros at the end change no
    product; its backward in bfloat16 takes two to five times as long as in float32, with both conversions.
    """
    dtype, on_cpu = v_BHKE.dtype, v_BHKE.device.type == "cpu"
    if on_cpu and dtype.itemsize < 4 and torch.is_grad_enabled():
        with without_autocast("cpu"):
            how["attn_mask"] = _exact(how["attn_mask"])
            return _fused(q_BHQD.float(), k_BHKD.float(), v_BHKE.float(), **how).to(dtype)
    width, widest = v_BHKE.shape[-1], max(k_BHKD.shape[-1], v_BHKE.shape[-1])
    if not on_cpu or width == k_BHKD.shape[-1] or min(q_BHQD.shape[-2], k_BHKD.shape[-2]) < _LONG:
        return F.scaled_dot_product_attention(q_BHQD, k_BHKD, v_BHKE, **how)
    q_BHQD, k_BHKD, v_BHKE = (F.pad(part, (0, widest - part.shape[-1])) for part in (q_BHQD, k_BHKD, v_BHKE))
    return F.scaled_dot_product_attention(q_BHQD, k_BHKD, v_BHKE, **how)[..., :width]


def _exact(mask: Tensor | None) -> Tensor | None:
    """A bias in float32; what is allowed as it is."""
    return mask if mask is None or mask.dtype is torch.bool else mask.float()


def _added(bias: Tensor | None, allowed: Tensor | None) -> Tensor | None:
    """A bias of the scores and what is allowed, in the one mask that a kernel takes."""
    if bias is None or allowed is None:
        return allowed if bias is None else bias
    return torch.where(allowed, bias, -torch.inf)


def _combine(mask: Tensor | None, causal: bool, queries: int, keys: int, device: torch.device) -> Tensor | None:
    """Both masks in one; None: everything is allowed."""
    if not causal:
        return mask
    past_QK = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return past_QK if mask is None else mask & past_QK


class KeyValue(NamedTuple):
    """Keys and values, projected and split into heads: what decoding need not compute twice."""

    keys_BHKD: Tensor  # as `score.prepare` gives them
    values_BHKE: Tensor

    def append(self, other: KeyValue) -> KeyValue:
        """These and, behind them, the places of `other`."""
        return KeyValue(*(torch.cat(pair, dim=2) for pair in zip(self, other, strict=True)))

    def select(self, rows_N: Tensor) -> KeyValue:
        """The given rows of the batch, in the given order."""
        return KeyValue(*(tensor.index_select(0, rows_N) for tensor in self))


class MultiHeadAttention(nn.Module):
    """Attention in `num_heads` subspaces, with projections in and out: Vaswani et al. 2017, section 3.2.2."""

    def __init__(
        self,
        model: BlocksConfig,
        config: AttentionConfig,
        scale: float = 1.0,
        position: RelativePosition | None = None,
    ) -> None:
        """Build the projections.

        Args:
            model: number and widths of the heads.
            config: how to attend.
            scale: what the first weights of values and output are multiplied with (DeepNorm's beta).
            position: as in `Attention`.
        """
        super().__init__()
        self.num_heads, (d_k, d_v) = model.num_heads, model.head_widths
        # At 1/sqrt(2) the three together have the scale of one square matrix: what fairseq starts from. DeepNorm starts
        # queries and keys at 1, and values at beta: Wang et al. 2022, Figure 2.
        gain = 1.0 if model.norm is Norm.deepnorm else 2**-0.5
        widths = (self.num_heads * d_k, self.num_heads * d_k, self.num_heads * d_v)
        self.qkv = PackedLinear(model.d_model, widths, gains=(gain,) * 3, scales=(1.0, 1.0, scale))
        self.attention = Attention(d_k, d_k, config, position)
        self.out = BranchEnd(self.num_heads * d_v, model.d_model, scale)

    def forward(
        self,
        x_BQM: Tensor,
        memory: Tensor | KeyValue | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        need_weights: bool = False,
    ) -> AttentionOutput:
        """context_BQM and, if asked for, weights_BHQK.

        `memory` None: x attends to itself. Else memory_BKM, or that memory's `keys_values`, made once for many calls.
        """
        if memory is None:
            q_BHQD, keys_values = self._own(x_BQM)
        else:
            (q_BHQD,) = self._heads(self.qkv.split(x_BQM, 0, 1))
            keys_values = memory if isinstance(memory, KeyValue) else self.keys_values(memory)
        context_BHQE, weights_BHQK = self.attention(
            q_BHQD, *keys_values, mask=mask, causal=causal, need_weights=need_weights
        )
        return AttentionOutput(self.out(context_BHQE.transpose(1, 2).flatten(2)), weights_BHQK)

    def keys_values(self, memory_BKM: Tensor) -> KeyValue:
        """What `forward` needs to know of a memory."""
        k_BHKD, v_BHKE = self._heads(self.qkv.split(memory_BKM, 1, 3))
        return KeyValue(self.attention.score.prepare(k_BHKD), v_BHKE)

    def step(self, x_BJM: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """Causal self-attention of the next place alone: context_BJM, and the past with this place in it.

        Each of the J hypotheses of each of the B sentences has a past of its own: the past's rows are B x J.
        """
        first = 0 if past is None else past.keys_BHKD.shape[2]
        q_NH1D, new = self._own(x_BJM.reshape(-1, 1, x_BJM.shape[-1]), first)
        present = new if past is None else past.append(new)
        context_NH1E = self.attention(q_NH1D, *present).context
        return self.out(context_NH1E.reshape(*x_BJM.shape[:2], -1)), present

    def _own(self, x_BLM: Tensor, offset: int = 0) -> tuple[Tensor, KeyValue]:
        """Queries, keys and values of tokens at places offset, offset + 1, ..., for self-attention."""
        q_BHLD, k_BHLD, v_BHLE = self._heads(self.qkv.split(x_BLM, 0, 3))
        position = self.attention.position
        if position is not None:
            q_BHLD, k_BHLD = position.turn(q_BHLD, offset), position.turn(k_BHLD, offset)
        return q_BHLD, KeyValue(self.attention.score.prepare(k_BHLD), v_BHLE)

    def _heads(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Views BHLD of BLW, which holds the heads side by side."""
        heads = self.num_heads
        return [part.view(*part.shape[:2], heads, part.shape[2] // heads).transpose(1, 2) for part in parts]
