"""Attention: score, mask, softmax, dropout and sum, in the one place of all of them; and its multi-head form."""

# Shapes: B batch, H heads, Q queries, K keys, D width of a head, M d_model, J hypotheses of a sentence (in decoding)

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Backend
from attnbench.nn.dropout import Dropout
from attnbench.nn.packed import BranchEnd, PackedLinear
from attnbench.nn.scoring import build_score

Path = Literal["fused", "explicit"]


class AttentionOutput(NamedTuple):
    """What was attended to, and how much; the weights are those before dropout, None unless asked for."""

    context: Tensor
    weights: Tensor | None


class Attention(nn.Module):
    """softmax(score(q, k)) v, by a fused kernel where the score allows it and nobody asks for the weights."""

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig) -> None:
        super().__init__()
        self.score = build_score(d_q, d_k, config)
        self.dropout = Dropout(config.dropout)
        self.backend = config.backend

    def path(self, device: torch.device, need_weights: bool = False) -> Path:
        """Which path a call on `device` takes now (dropout depends on train or eval)."""
        # On a CPU, dropout sends PyTorch's fused kernel down a path slower than ours.
        dropout_is_fused = not self.dropout.active or device.type == "cuda"
        auto = self.backend is Backend.auto and not need_weights and dropout_is_fused
        return "fused" if auto and self.score.fusable else "explicit"

    def forward(
        self,
        q_BHQD: Tensor,
        k_BHKD: Tensor,
        v_BHKD: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        need_weights: bool = False,
    ) -> AttentionOutput:
        """context_BHQD and, if asked for, weights_BHQK.

        `mask` is bool, broadcastable to BHQK, True where a query may attend. `causal`: the queries are the last
        Q of the K places and see none after their own. A query that may attend to nothing gets zeros.
        """
        queries, keys = q_BHQD.shape[-2], k_BHKD.shape[-2]
        # One query is the last place and sees everything; that is how decoding with a cache asks.
        causal = causal and queries > 1
        if self.path(q_BHQD.device, need_weights) == "explicit":
            allowed = _combine(mask, causal, queries, keys, q_BHQD.device)
            return self._explicit(q_BHQD, k_BHKD, v_BHKD, allowed, need_weights)
        # The kernel's own causal mask costs nothing, but stands alone and knows only squares.
        native = causal and mask is None and queries == keys
        q_BHQD, k_BHKD, scale = self.score.as_dot_product(q_BHQD, k_BHKD)
        context_BHQD = F.scaled_dot_product_attention(
            q_BHQD,
            k_BHKD,
            v_BHKD,
            attn_mask=None if native else _combine(mask, causal, queries, keys, q_BHQD.device),
            dropout_p=self.dropout.p if self.dropout.active else 0.0,
            is_causal=native,
            scale=scale,
        )
        return AttentionOutput(context_BHQD, None)

    def _explicit(
        self, q_BHQD: Tensor, k_BHKD: Tensor, v_BHKD: Tensor, allowed: Tensor | None, need_weights: bool
    ) -> AttentionOutput:
        scores_BHQK: Tensor = self.score(q_BHQD, k_BHKD)
        if allowed is None:
            weights_BHQK = scores_BHQK.softmax(-1)
        else:
            # The lowest finite number instead of -inf: a row of -inf has a NaN softmax, and a NaN gradient even
            # where its result is not used. Such a row comes out uniform and is then cleared.
            lowest = torch.finfo(scores_BHQK.dtype).min
            weights_BHQK = scores_BHQK.masked_fill(~allowed, lowest).softmax(-1).masked_fill(~allowed, 0.0)
        dropped_BHQK: Tensor = self.dropout(weights_BHQK)
        return AttentionOutput(dropped_BHQK.to(v_BHKD.dtype) @ v_BHKD, weights_BHQK if need_weights else None)


def _combine(mask: Tensor | None, causal: bool, queries: int, keys: int, device: torch.device) -> Tensor | None:
    """Both masks in one; None: everything is allowed."""
    if not causal:
        return mask
    past_QK = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return past_QK if mask is None else mask & past_QK


class KeyValue(NamedTuple):
    """Keys and values, projected and split into heads: what decoding need not compute twice."""

    keys_BHKD: Tensor
    values_BHKD: Tensor

    def append(self, other: KeyValue) -> KeyValue:
        """These and, behind them, the places of `other`."""
        return KeyValue(*(torch.cat(pair, dim=2) for pair in zip(self, other, strict=True)))

    def select(self, rows_N: Tensor) -> KeyValue:
        """The given rows of the batch, in the given order."""
        return KeyValue(*(tensor.index_select(0, rows_N) for tensor in self))


class MultiHeadAttention(nn.Module):
    """Attention in `num_heads` subspaces, with projections in and out: Vaswani et al. 2017, section 3.2.2."""

    def __init__(self, d_model: int, num_heads: int, config: AttentionConfig, gain: float = 1.0) -> None:
        """`gain` is for the Xavier initialisation of values and output."""
        super().__init__()
        self.d_model, self.num_heads = d_model, num_heads
        # At 1/sqrt(2) the three together have the scale of one square matrix: what fairseq starts from.
        self.qkv = PackedLinear(d_model, d_model, gains=(2**-0.5, 2**-0.5, gain * 2**-0.5))
        self.attention = Attention(d_model // num_heads, d_model // num_heads, config)
        self.out = BranchEnd(d_model, d_model, gain)

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
            q_BHQD, *keys_values = self._heads(self.qkv(x_BQM))
        else:
            (q_BHQD,) = self._heads(self.qkv.part(x_BQM, 0, 1))
            keys_values = list(memory if isinstance(memory, KeyValue) else self.keys_values(memory))
        context_BHQD, weights_BHQK = self.attention(
            q_BHQD, *keys_values, mask=mask, causal=causal, need_weights=need_weights
        )
        return AttentionOutput(self.out(context_BHQD.transpose(1, 2).flatten(2)), weights_BHQK)

    def keys_values(self, memory_BKM: Tensor) -> KeyValue:
        """What `forward` needs to know of a memory."""
        return KeyValue(*self._heads(self.qkv.part(memory_BKM, 1, 3)))

    def step(self, x_BJM: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """Causal self-attention of the next place alone: context_BJM, and the past with this place in it.

        Each of the J hypotheses of each of the B sentences has a past of its own: the past's rows are B x J.
        """
        q_NH1D, *new = self._heads(self.qkv(x_BJM.reshape(-1, 1, self.d_model)))
        present = KeyValue(*new) if past is None else past.append(KeyValue(*new))
        context_NH1D = self.attention(q_NH1D, *present).context
        return self.out(context_NH1D.reshape(x_BJM.shape)), present

    def _heads(self, packed_BLPM: Tensor) -> list[Tensor]:
        """One view BHLD for each of the P projections that lie side by side in the last dimension."""
        batch, length, width = packed_BLPM.shape
        head = self.d_model // self.num_heads
        split_BLPHD = packed_BLPM.view(batch, length, width // self.d_model, self.num_heads, head)
        return list(split_BLPHD.permute(2, 0, 3, 1, 4).unbind(0))
