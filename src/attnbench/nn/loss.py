"""Output projection and label-smoothed cross-entropy, computed in chunks: no N x V tensor of logits is stored."""

# Shapes: N tokens, C tokens of a chunk, V vocabulary, D width

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attnbench.nn.autocast import disable_autocast, is_autocast_enabled

# Logits of a chunk. On a CPU they stay in its cache, and under 32 MiB, over which glibc gives every block new pages.
_LOGITS_PER_CHUNK_CPU = 2**21
_LOGITS_PER_CHUNK_GPU = 2**27
_MAX_RELIABLE_NLL = 80.0  # nats: the p of such a token is close to where float32 loses digits, at exp(-87)


class CrossEntropy(NamedTuple):
    """Loss of N tokens: the sum, which has a gradient, and the values of each token, which have none."""

    loss_sum: Tensor
    nll_N: Tensor  # without label smoothing: the exponential of its mean is the perplexity
    loss_N: Tensor  # with label smoothing: sums to loss_sum


def linear_cross_entropy(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    target_N: Tensor,
    *,
    label_smoothing: float = 0.0,
    chunk_size: int | None = None,
) -> CrossEntropy:
    """Compute the cross-entropy of softmax(hidden W^T + b) against `target_N`, without a tensor of N x V logits.

    Equal to torch.nn.functional.cross_entropy(F.linear(hidden, W, b), target, label_smoothing=...) with
    reduction="sum" (loss_sum) and "none" (loss_N); Szegedy et al. 2016, section 7.

    Gradients are computed together with the loss, from the logits of the same chunk; none under no_grad.
    Under autocast the products are in its dtype, softmax and sums in float32.

    Args:
        hidden_ND: hidden state of each token.
        weight_VD: output projection.
        bias_V: bias of the output projection, or None.
        target_N: vocabulary index of each target token.
        label_smoothing: share of each target that is spread evenly over the vocabulary.
        chunk_size: number of tokens whose logits are stored at a time; None chooses the fastest for the device.
    """
    if chunk_size is None:
        chunk_size = max(
            1, (_LOGITS_PER_CHUNK_GPU if hidden_ND.is_cuda else _LOGITS_PER_CHUNK_CPU) // weight_VD.shape[0]
        )
    inputs = [hidden_ND, weight_VD] if bias_V is None else [hidden_ND, weight_VD, bias_V]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        return CrossEntropy(
            *_LinearCrossEntropy.apply(hidden_ND, weight_VD, bias_V, target_N, label_smoothing, chunk_size)
        )
    work = _ChunkedCrossEntropy(hidden_ND, weight_VD, bias_V, label_smoothing, needs_gradients=False)
    return work.compute_losses(target_N, chunk_size)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_N: Tensor,
        label_smoothing: float,
        chunk: int,
    ) -> CrossEntropy:
        work = _ChunkedCrossEntropy(hidden_ND, weight_VD, bias_V, label_smoothing, needs_gradients=True)
        found = work.compute_losses(target_N, chunk)
        ctx.save_for_backward(*work.get_gradients())
        ctx.mark_non_differentiable(found.nll_N, found.loss_N)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [None if gradient is None else gradient * loss_grad for gradient in ctx.saved_tensors]
        return (*scaled, None, None, None)


class _ChunkedCrossEntropy:
    """Cross-entropy of one call, with sums and gradients that grow chunk by chunk.

    The smoothed part of the loss, the mean of -log p over V, is linear in the logits except for their log-sum-exp. So
    this part and its gradients follow from hidden states and the mean of W over V, without another pass over the
    logits.
    """

    def __init__(
        self,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        label_smoothing: float,
        needs_gradients: bool,
    ) -> None:
        device = hidden_ND.device.type
        self.device, self.smoothing, self.want_gradients = device, label_smoothing, needs_gradients
        dtype = torch.get_autocast_dtype(device) if is_autocast_enabled(device) else hidden_ND.dtype
        self.exact = torch.promote_types(dtype, torch.float32)
        self.inputs = hidden_ND, weight_VD, bias_V
        self.hidden_ND, self.weight_VD = hidden_ND.detach().to(dtype), weight_VD.detach().to(dtype)
        self.bias_V = None if bias_V is None else bias_V.detach().to(self.exact)
        if needs_gradients:
            self.hidden_grad_ND = torch.empty_like(self.hidden_ND)
            self.weight_grad_VD = torch.zeros_like(weight_VD, dtype=self.exact)
            self.bias_grad_V = None if bias_V is None else torch.zeros_like(bias_V, dtype=self.exact)

    def compute_losses(self, target_N: Tensor, chunk: int) -> CrossEntropy:
        """Compute the losses, and the gradients of their sum."""
        nll_N, target_logit_N = self.hidden_ND.new_empty(2, len(target_N), dtype=self.exact)
        with torch.no_grad(), disable_autocast(self.device):
            # One buffer for the logits of all chunks: fresh pages would cost more than the arithmetic.
            buffer_CV = self.hidden_ND.new_empty(min(chunk, len(target_N)), len(self.weight_VD))
            for first in range(0, len(target_N), chunk):
                rows = slice(first, first + chunk)
                nll_N[rows], target_logit_N[rows] = self._process_chunk(rows, target_N[rows, None], buffer_CV)
            if _is_branching_cheap(self.device):
                self._recompute_inexact_losses(nll_N, target_N, buffer_CV)
            loss_N = nll_N + self._apply_label_smoothing(target_logit_N)
        return CrossEntropy(loss_N.sum(), nll_N, loss_N)

    def _compute_logits(self, hidden_CD: Tensor, buffer_CV: Tensor) -> Tensor:
        """Compute the logits of a chunk into a buffer."""
        logits_CV = torch.mm(hidden_CD, self.weight_VD.T, out=buffer_CV[: len(hidden_CD)]).to(self.exact)
        if self.bias_V is not None:
            logits_CV += self.bias_V
        return logits_CV

    def _process_chunk(self, rows: slice, target_C1: Tensor, buffer_CV: Tensor) -> tuple[Tensor, Tensor]:
        """Compute nll_C and the logit of each target, and add the chunk's gradients.

        One softmax kernel computes each row; separate operations (maximum, exponential, sum) would read all logits
        several times. The kernel does not return the log normalizer, which is a logit minus its log p. On a CPU the
        target's p is used, and `_recompute_inexact_losses` repairs rows where p is too small for float32. On a GPU
        that check would force a synchronization, so the likeliest token's p is used.
        """
        hidden_CD = self.hidden_ND[rows]
        logits_CV = self._compute_logits(hidden_CD, buffer_CV)
        known_C1 = target_C1 if _is_branching_cheap(self.device) else logits_CV.argmax(1, keepdim=True)
        known_logit_C1, target_logit_C1 = logits_CV.gather(1, known_C1), logits_CV.gather(1, target_C1)
        p_CV = torch.softmax(logits_CV, 1, out=logits_CV)
        log_normalizer_C1 = known_logit_C1 - p_CV.gather(1, known_C1).log()
        if self.want_gradients:
            grad_CV = p_CV.scatter_add_(1, target_C1, torch.full_like(target_logit_C1, self.smoothing - 1))
            self._backpropagate(rows, hidden_CD, grad_CV)
        return (log_normalizer_C1 - target_logit_C1).squeeze(1), target_logit_C1.squeeze(1)

    def _recompute_inexact_losses(self, nll_N: Tensor, target_N: Tensor, buffer_CV: Tensor) -> None:
        """Recompute, from the logits, the losses of tokens whose p has too few digits or is zero."""
        for rows_C in torch.split((nll_N > _MAX_RELIABLE_NLL).nonzero().squeeze(1), len(buffer_CV)):
            logits_CV = self._compute_logits(self.hidden_ND[rows_C], buffer_CV)
            nll_N[rows_C] = logits_CV.logsumexp(1) - logits_CV.gather(1, target_N[rows_C, None]).squeeze(1)

    def _backpropagate(self, rows: slice, hidden_CD: Tensor, grad_CV: Tensor) -> None:
        """Add the gradients of one chunk."""
        if self.bias_grad_V is not None:
            self.bias_grad_V += grad_CV.sum(0)
        grad_CV = grad_CV.to(hidden_CD.dtype)
        torch.mm(grad_CV, self.weight_VD, out=self.hidden_grad_ND[rows])
        if self.weight_grad_VD.dtype == grad_CV.dtype:
            self.weight_grad_VD.addmm_(grad_CV.T, hidden_CD)
        else:
            self.weight_grad_VD += grad_CV.T @ hidden_CD

    def _apply_label_smoothing(self, target_logit_N: Tensor) -> Tensor:
        """Compute what label smoothing adds to the loss of each token, and add its share to the gradients.

        With log normalizer z, target logit t, mean logit m: (1 - s)(z - t) + s(z - m) = (z - t) + s(t - m).
        The mean logit is linear in the hidden state, so that it needs the mean row of the weight alone.
        """
        tokens, vocabulary = len(self.hidden_ND), len(self.weight_VD)
        weight_mean_D = self.weight_VD.mean(0, dtype=self.exact)
        mean_logit_N = self.hidden_ND.to(self.exact) @ weight_mean_D
        if self.bias_V is not None:
            mean_logit_N += self.bias_V.mean()
        if self.want_gradients:
            hidden_sum_D = self.hidden_ND.sum(0, dtype=self.exact)
            self.hidden_grad_ND -= (self.smoothing * weight_mean_D).to(self.hidden_grad_ND.dtype)
            self.weight_grad_VD -= self.smoothing / vocabulary * hidden_sum_D
            if self.bias_grad_V is not None:
                self.bias_grad_V -= self.smoothing / vocabulary * tokens
        return self.smoothing * (target_logit_N - mean_logit_N)

    def get_gradients(self) -> list[Tensor | None]:
        """Of loss_sum with respect to hidden, weight and bias, in their dtypes."""
        found = self.hidden_grad_ND, self.weight_grad_VD, self.bias_grad_V
        return [
            None if gradient is None or tensor is None else gradient.to(tensor.dtype)
            for gradient, tensor in zip(found, self.inputs, strict=True)
        ]


def _is_branching_cheap(device: str) -> bool:
    """Return True if data-dependent branching is cheap: on a GPU it would force a synchronization."""
    return device == "cpu"
