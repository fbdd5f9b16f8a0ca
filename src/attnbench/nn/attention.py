"""Attention: scores, masks, weights, dropout and the sum of values, and the multi-head layer.

Every model uses the code in this file; no other file applies a mask or a softmax to scores.
"""

# Shapes: B batch, H heads, Q queries, K keys, D width of a query or key, E of a value, M d_model, L places,
#         W all heads side by side, J hypotheses of a sentence (in decoding)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Backend
from attnbench.config.model import BlocksConfig, NormPlacement
from attnbench.nn.autocast import disable_autocast
from attnbench.nn.dropout import Dropout
from attnbench.nn.gradient_buffer import matmul_with_buffer
from attnbench.nn.normalizers import build_normalizer
from attnbench.nn.positions import RelativePosition
from attnbench.nn.projections import PackedLinear, ResidualProjection
from attnbench.nn.scoring import build_score

Path = Literal["fused", "eager"]
_MIN_FUSED_MASK_LENGTH = 48  # above this size, padding to equal widths costs less than storing all scores


class AttentionOutput(NamedTuple):
    """Result of attention: the context, and the weights before dropout (None unless requested)."""

    context: Tensor
    weights: Tensor | None


class Attention(nn.Module):
    """Attention weights(score(q, k)) v, by a fused kernel where the score allows it and no weights are requested.

    Args:
        d_q: width of the queries in each head.
        d_k: width of the keys in each head.
        config: scoring function, normalizer, dropout and backend.
        position: relative position of a self-attention; None for cross-attention and for absolute positions.
    """

    def __init__(self, d_q: int, d_k: int, config: AttentionConfig, position: RelativePosition | None = None) -> None:
        super().__init__()
        self.score = build_score(d_q, d_k, config)
        self.normalizer = build_normalizer(config)
        self.position = position
        self.dropout = Dropout(config.dropout)
        self.backend = config.backend

    def select_path(self, device: torch.device, need_weights: bool = False) -> Path:
        """Return the path that a call on `device` takes.

        The result depends on training or evaluation mode, because some kernels have no dropout.

        Args:
            device: device of the queries.
            need_weights: True if the call returns weights, which only the eager path computes.
        """
        # On a CPU, dropout sends PyTorch's fused kernel down a path slower than ours.
        dropout_is_fused = not self.dropout.is_active or device.type == "cuda"
        auto = self.backend is Backend.auto and not need_weights and dropout_is_fused
        placed = self.position is not None and self.position.needs_weights
        return "fused" if auto and self.score.is_fusable and self.normalizer.is_fusable and not placed else "eager"

    def forward(
        self,
        q_BHQD: Tensor,
        k_BHKD: Tensor,
        v_BHKE: Tensor,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        weight_scale: Tensor | None = None,
        need_weights: bool = False,
    ) -> AttentionOutput:
        """Compute the context and, if requested, the attention weights.

        Args:
            q_BHQD: queries.
            k_BHKD: keys, as `score.prepare_keys` returns them.
            v_BHKE: values.
            mask: bool, broadcastable to BHQK; True where a query may attend to a key.
            is_causal: the queries are the last Q of the K positions, and a query sees no later key.
            weight_scale: factor of the weights, broadcastable to BHQK.
            need_weights: also return the weights.

        Returns:
            context_BHQE and weights_BHQK (or None). A query that may attend to no key gets zeros.
        """
        queries, keys = q_BHQD.shape[-2], k_BHKD.shape[-2]
        # A single query is at the last position and sees all keys, as in decoding with a cache.
        is_causal = is_causal and queries > 1
        bias = None if self.position is None else self.position.compute_bias(q_BHQD, keys)
        if weight_scale is not None or self.select_path(q_BHQD.device, need_weights) == "eager":
            allowed = _combine_masks(mask, is_causal, queries, keys, q_BHQD.device)
            weights_BHQK = self._compute_weights(q_BHQD, k_BHKD, bias, allowed)
            if weight_scale is not None:
                weights_BHQK = weights_BHQK * weight_scale
            return AttentionOutput(self._sum_values(weights_BHQK, v_BHKE), weights_BHQK if need_weights else None)
        # The kernel's own causal mask is free, but cannot be combined with another mask and needs Q = K.
        native = is_causal and mask is None and bias is None and queries == keys
        q_BHQD, k_BHKD, scale = self.score.as_dot_product(q_BHQD, k_BHKD)
        context_BHQE = _compute_fused_attention(
            q_BHQD,
            k_BHKD,
            v_BHKE,
            attn_mask=None
            if native
            else _merge_bias_and_mask(bias, _combine_masks(mask, is_causal, queries, keys, q_BHQD.device)),
            dropout_p=self.dropout.p if self.dropout.is_active else 0.0,
            is_causal=native,
            scale=scale,
        )
        return AttentionOutput(context_BHQE, None)

    def _compute_weights(self, q_BHQD: Tensor, k_BHKD: Tensor, bias: Tensor | None, allowed: Tensor | None) -> Tensor:
        """Compute weights_BHQK from queries and keys; rows without an allowed key are zero."""
        scores_BHQK: Tensor = self.score(q_BHQD, k_BHKD)
        if bias is not None:
            scores_BHQK = scores_BHQK + bias
        if allowed is None:
            weights_BHQK: Tensor = self.normalizer(scores_BHQK)
            return weights_BHQK
        # The lowest finite number instead of -inf: a row of -inf has a NaN softmax, and a NaN gradient even
        # where its result is not used. Such a row gets arbitrary weights, which are then set to zero.
        lowest = torch.finfo(scores_BHQK.dtype).min
        weights_BHQK = self.normalizer(scores_BHQK.masked_fill(~allowed, lowest))
        return weights_BHQK.masked_fill(~allowed, 0.0)

    def _sum_values(self, weights_BHQK: Tensor, v_BHKE: Tensor) -> Tensor:
        """Compute context_BHQE from weights and values."""
        dropped_BHQK: Tensor = self.dropout(weights_BHQK).to(v_BHKE.dtype)
        context_BHQE = matmul_with_buffer(dropped_BHQK, v_BHKE)
        own_BHQE = None if self.position is None else self.position.compute_value_terms(dropped_BHQK)
        return context_BHQE if own_BHQE is None else context_BHQE + own_BHQE


def _compute_fused_attention(q_BHQD: Tensor, k_BHKD: Tensor, v_BHKE: Tensor, **how: Any) -> Tensor:
    """Compute context_BHQE with torch's fused kernel.

    On a CPU, values whose width differs from that of the keys are padded with zeros: otherwise torch would store all
    scores. In bfloat16 the kernel's backward pass takes two to five times as long as in float32, so float32 is used
    there.
    """
    dtype, on_cpu = v_BHKE.dtype, v_BHKE.device.type == "cpu"
    if on_cpu and dtype.itemsize < 4 and torch.is_grad_enabled():
        with disable_autocast("cpu"):
            how["attn_mask"] = _convert_bias_to_float32(how["attn_mask"])
            return _compute_fused_attention(q_BHQD.float(), k_BHKD.float(), v_BHKE.float(), **how).to(dtype)
    width, widest = v_BHKE.shape[-1], max(k_BHKD.shape[-1], v_BHKE.shape[-1])
    if not on_cpu or width == k_BHKD.shape[-1] or min(q_BHQD.shape[-2], k_BHKD.shape[-2]) < _MIN_FUSED_MASK_LENGTH:
        return F.scaled_dot_product_attention(q_BHQD, k_BHKD, v_BHKE, **how)
    q_BHQD, k_BHKD, v_BHKE = (F.pad(part, (0, widest - part.shape[-1])) for part in (q_BHQD, k_BHKD, v_BHKE))
    return F.scaled_dot_product_attention(q_BHQD, k_BHKD, v_BHKE, **how)[..., :width]


def _convert_bias_to_float32(mask: Tensor | None) -> Tensor | None:
    """Convert a float mask to float32; return a bool mask unchanged."""
    return mask if mask is None or mask.dtype is torch.bool else mask.float()


def _merge_bias_and_mask(bias: Tensor | None, allowed: Tensor | None) -> Tensor | None:
    """Merge a bias of the scores and a bool mask into the one mask that a kernel takes."""
    if bias is None or allowed is None:
        return allowed if bias is None else bias
    return torch.where(allowed, bias, -torch.inf)


def _combine_masks(
    mask: Tensor | None, is_causal: bool, queries: int, keys: int, device: torch.device
) -> Tensor | None:
    """Combine a mask with the causal mask; None means that every key is allowed."""
    if not is_causal:
        return mask
    past_QK = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return past_QK if mask is None else mask & past_QK


class KeyValue(NamedTuple):
    """Projected keys and values, split into heads; decoding caches them."""

    keys_BHKD: Tensor  # as `score.prepare` gives them
    values_BHKE: Tensor

    def append(self, other: KeyValue) -> KeyValue:
        """Return these keys and values followed by those of `other`."""
        return KeyValue(*(torch.cat(pair, dim=2) for pair in zip(self, other, strict=True)))

    def select(self, rows_N: Tensor) -> KeyValue:
        """Return the given rows of the batch, in the given order."""
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
            config: scoring function, normalizer, dropout and backend.
            scale: factor of the initial weights of the value and output projections (DeepNorm's beta).
            position: as in `Attention`.
        """
        super().__init__()
        self.num_heads, (d_k, d_v) = model.num_heads, model.head_widths
        # A gain of 1/sqrt(2) gives the three matrices together the scale of one square matrix, as in fairseq.
        # DeepNorm has gain 1 for queries and keys, and beta for values: Wang et al. 2022, Figure 2.
        gain = 1.0 if model.norm_placement is NormPlacement.deepnorm else 2**-0.5
        widths = (self.num_heads * d_k, self.num_heads * d_k, self.num_heads * d_v)
        self.qkv = PackedLinear(model.d_model, widths, gains=(gain,) * 3, scales=(1.0, 1.0, scale))
        self.attention = Attention(d_k, d_k, config, position)
        self.output_projection = ResidualProjection(self.num_heads * d_v, model.d_model, scale)

    def forward(
        self,
        x_BQM: Tensor,
        memory: Tensor | KeyValue | None = None,
        *,
        mask: Tensor | None = None,
        is_causal: bool = False,
        need_weights: bool = False,
    ) -> AttentionOutput:
        """Compute multi-head attention.

        Args:
            x_BQM: inputs that the queries are projected from.
            memory: None for self-attention; memory_BKM, or the result of `project_memory` for repeated calls.
            mask: as in `Attention.forward`.
            is_causal: as in `Attention.forward`.
            need_weights: also return the weights.

        Returns:
            context_BQM and weights_BHQK (or None).
        """
        if memory is None:
            q_BHQD, keys_values = self._project_self(x_BQM)
        else:
            (q_BHQD,) = self._split_heads(self.qkv.split(x_BQM, 0, 1))
            keys_values = memory if isinstance(memory, KeyValue) else self.project_memory(memory)
        context_BHQE, weights_BHQK = self.attention(
            q_BHQD, *keys_values, mask=mask, is_causal=is_causal, need_weights=need_weights
        )
        return AttentionOutput(self.output_projection(context_BHQE.transpose(1, 2).flatten(2)), weights_BHQK)

    def project_memory(self, memory_BKM: Tensor) -> KeyValue:
        """Project a memory to keys and values, for repeated calls of `forward`."""
        k_BHKD, v_BHKE = self._split_heads(self.qkv.split(memory_BKM, 1, 3))
        return KeyValue(self.attention.score.prepare_keys(k_BHKD), v_BHKE)

    def decode_step(self, x_BJM: Tensor, past: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """Compute causal self-attention of the next position of each hypothesis.

        Args:
            x_BJM: inputs at the next position; J hypotheses of each of B sentences.
            past: keys and values of earlier positions, in B x J rows; None at the first position.

        Returns:
            context_BJM, and `past` with the next position appended.
        """
        first = 0 if past is None else past.keys_BHKD.shape[2]
        q_NH1D, new = self._project_self(x_BJM.reshape(-1, 1, x_BJM.shape[-1]), first)
        present = new if past is None else past.append(new)
        context_NH1E = self.attention(q_NH1D, *present).context
        return self.output_projection(context_NH1E.reshape(*x_BJM.shape[:2], -1)), present

    def _project_self(self, x_BLM: Tensor, offset: int = 0) -> tuple[Tensor, KeyValue]:
        """Project the tokens at positions offset, offset + 1, ... to queries, keys and values for self-attention."""
        q_BHLD, k_BHLD, v_BHLE = self._split_heads(self.qkv.split(x_BLM, 0, 3))
        position = self.attention.position
        if position is not None:
            q_BHLD, k_BHLD = position.rotate(q_BHLD, offset), position.rotate(k_BHLD, offset)
        return q_BHLD, KeyValue(self.attention.score.prepare_keys(k_BHLD), v_BHLE)

    def _split_heads(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return views BHLD of tensors BLW in which the heads are side by side."""
        heads = self.num_heads
        return [part.view(*part.shape[:2], heads, part.shape[2] // heads).transpose(1, 2) for part in parts]
