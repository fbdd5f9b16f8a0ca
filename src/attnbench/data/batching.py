"""Batches of sentence pairs by token count: which sentences make an update, this rank's part of it, and tensors.

Legend: N sentences of the split, B sentences of a batch, S source tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from attnbench.data.encoding import EncodedPairs
from attnbench.data.sharding import EvaluationSampler, Int64, MicroBatchSpec, UpdateSampler
from attnbench.data.tokenizer import PAD


@dataclass(frozen=True)
class Batch:
    """Sentence pairs as tensors, padded at the end."""

    source_BS: Tensor
    target_in_BT: Tensor  # BOS and the words
    target_out_BT: Tensor  # the words and EOS: the token to predict at each position of target_in
    indices_B: Tensor  # index of each pair in its Split
    num_tokens: int  # target tokens to predict, padding not counted
    num_source_tokens: int
    num_update_tokens: float  # target tokens of the whole update, over all ranks and accumulated batches

    unit_name: ClassVar[str] = "target_tokens"  # unit of throughput

    @property
    def num_units(self) -> int:
        """Number of target tokens without padding."""
        return self.num_tokens

    @property
    def num_update_units(self) -> float:
        """Number of target tokens in the whole update, over all ranks and micro-batches."""
        return self.num_update_tokens

    @property
    def token_counts(self) -> tuple[int, int]:
        """Number of non-padding tokens in source and target, and number of all tokens, padding included."""
        real = self.num_source_tokens + self.num_tokens
        return real, self.source_BS.numel() + self.target_out_BT.numel()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on another device.

        Args:
            device: target device.
            non_blocking: copy asynchronously from pinned memory.
        """
        return self._apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which copies to a GPU are asynchronous."""
        return self._apply(Tensor.pin_memory)

    def _apply(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return a batch with `function` applied to each tensor."""
        return replace(
            self,
            source_BS=function(self.source_BS),
            target_in_BT=function(self.target_in_BT),
            target_out_BT=function(self.target_out_BT),
            indices_B=function(self.indices_B),
        )


def _sort_by_length(source_N: Int64, target_N: Int64, ties_N: npt.NDArray[np.float64] | None = None) -> Int64:
    """Sort sentences by their longer side, then by the difference of the sides, so that neighbors have similar lengths.

    Every second length is sorted in reverse, so that the difference does not jump between two lengths.
    """
    longest_N, difference_N = np.maximum(source_N, target_N), target_N - source_N
    winding_N = np.where(longest_N % 2 == 0, difference_N, -difference_N)
    ties_N = np.zeros(len(source_N)) if ties_N is None else ties_N
    return np.lexsort((ties_N, winding_N, longest_N))


def plan_epoch(
    source_N: Int64, target_N: Int64, batch_tokens: int, *, seed: int, epoch: int, shuffle: bool
) -> list[Int64]:
    """Divide an epoch into updates of sentences with similar lengths: sentences x longest side <= `batch_tokens`.

    Args:
        source_N: tokens of each source.
        target_N: tokens of each target.
        batch_tokens: maximum number of tokens of an update on its longer side, padding included.
        seed: seed of the run.
        epoch: index of the epoch; with `seed`, it determines the order of updates and of sentences of equal length.
        shuffle: False keeps one fixed order.

    Returns:
        Sentence indices of each update. The number and the sizes of updates are the same in every epoch.

    Raises:
        ValueError: if a sentence is longer than `batch_tokens`.
    """
    longest_N = np.maximum(source_N, target_N)
    if longest_N.max(initial=0) > batch_tokens:
        raise ValueError(f"a sentence of {longest_N.max()} tokens; expected at most batch_tokens={batch_tokens}")
    random = np.random.default_rng((seed, epoch))
    order_N = _sort_by_length(source_N, target_N, random.random(len(longest_N)) if shuffle else None)
    updates, start = [], 0
    for end, longest in enumerate(longest_N[order_N].tolist()):  # ascending: the last is the widest
        if longest * (end + 1 - start) > batch_tokens:
            updates.append(order_N[start:end])
            start = end
    if start < len(order_N):
        updates.append(order_N[start:])
    return [updates[i] for i in random.permutation(len(updates))] if shuffle else updates


def select_first_updates(pairs: EncodedPairs, batch_tokens: int, count: int, *, seed: int) -> EncodedPairs:
    """Return only the sentences of the first `count` updates, for overfitting a few batches.

    Args:
        pairs: encoded sentence pairs.
        batch_tokens: `data.batch_tokens`.
        count: number of updates.
        seed: seed of the run.
    """
    lengths = pairs.source_lengths_N, pairs.target_lengths_N
    plan = plan_epoch(*lengths, batch_tokens, seed=seed, epoch=0, shuffle=True)
    return pairs.select(np.concatenate(plan[:count]))


def build_update_sampler(
    pairs: EncodedPairs, batch_tokens: int, *, seed: int, rank: int = 0, world_size: int = 1, num_micro_batches: int = 1
) -> UpdateSampler:
    """Build the sampler of this rank's micro-batches of every update.

    Args:
        pairs: training set.
        batch_tokens: maximum number of tokens of an update, padding included.
        seed: seed of the run.
        rank: rank of this process.
        world_size: number of processes.
        num_micro_batches: micro-batches of an update that each process computes one after the other.
    """
    lengths = pairs.source_lengths_N, pairs.target_lengths_N

    def plan(epoch: int) -> list[Int64]:
        return plan_epoch(*lengths, batch_tokens, seed=seed, epoch=epoch, shuffle=True)

    return UpdateSampler(plan, lengths[1], rank=rank, world_size=world_size, num_micro_batches=num_micro_batches)


def build_evaluation_sampler(
    pairs: EncodedPairs, batch_tokens: int, *, rank: int = 0, world_size: int = 1
) -> EvaluationSampler:
    """Build the sampler of this rank's batches of a split; sentences of similar length are in one batch.

    Args:
        pairs: encoded sentence pairs.
        batch_tokens: tokens per batch, padding included.
        rank: rank of this process.
        world_size: number of ranks.
    """
    source_N, target_N = pairs.source_lengths_N, pairs.target_lengths_N
    mine_N = _sort_by_length(source_N, target_N)[rank::world_size]
    plan = plan_epoch(source_N[mine_N], target_N[mine_N], batch_tokens, seed=0, epoch=0, shuffle=False)
    return EvaluationSampler([mine_N[rows_B] for rows_B in plan], target_N)


class _BatchDataset(Dataset[Batch]):
    """Dataset that turns a `MicroBatchSpec` into a `Batch`."""

    def __init__(self, pairs: EncodedPairs) -> None:
        self._pairs = pairs

    def __getitem__(self, share: MicroBatchSpec) -> Batch:
        pairs, rows_B = self._pairs, share.rows_B
        target_out_BT = pairs.target.pad_rows(rows_B, skip_first=1)
        num_source, num_target = (
            int(pairs.source_lengths_N[rows_B].sum()),
            int(pairs.target_lengths_N[rows_B].sum()),
        )
        if share.is_empty:
            target_out_BT[:], num_source, num_target = PAD, 0, 0
        return Batch(
            source_BS=torch.from_numpy(pairs.source.pad_rows(rows_B)),
            target_in_BT=torch.from_numpy(pairs.target.pad_rows(rows_B, skip_last=1)),
            target_out_BT=torch.from_numpy(target_out_BT),
            indices_B=torch.from_numpy(pairs.indices_N[rows_B]),
            num_tokens=num_target,
            num_source_tokens=num_source,
            num_update_tokens=share.num_update_units,
        )


def build_loader(
    pairs: EncodedPairs,
    sampler: UpdateSampler | EvaluationSampler,
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Build a loader of `Batch`; its batches do not depend on `num_workers`.

    Args:
        pairs: encoded sentence pairs.
        sampler: yields the sentences of each batch.
        num_workers: number of loader processes.
        pin_memory: pin the tensors of batches.
    """
    return DataLoader(
        _BatchDataset(pairs), batch_size=None, sampler=sampler, num_workers=num_workers, pin_memory=pin_memory
    )
