"""Batches by token count: which sentences make an update, which of them are this rank's, and as tensors.

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
from attnbench.data.sharding import EvaluationSampler, Int64, Share, UpdateSampler
from attnbench.data.tokenizer import PAD


@dataclass(frozen=True)
class Batch:
    """Sentence pairs as tensors, padded at the end."""

    source_BS: Tensor
    target_in_BT: Tensor  # BOS and the words
    target_out_BT: Tensor  # the words and EOS: what target_in is to predict, place by place
    indices_B: Tensor  # where each pair stands in its Split
    num_tokens: int  # target tokens to predict, padding not counted
    num_source_tokens: int
    update_tokens: float  # target tokens of the whole update, over all ranks and accumulated batches

    unit: ClassVar[str] = "target_tokens"  # what throughput counts

    @property
    def units(self) -> int:
        """How many of them there are to learn from."""
        return self.num_tokens

    @property
    def update_units(self) -> float:
        """How many of them the whole update has."""
        return self.update_tokens

    @property
    def places(self) -> tuple[int, int]:
        """Places in source and target that hold a token, and all places, padding included."""
        real = self.num_source_tokens + self.num_tokens
        return real, self.source_BS.numel() + self.target_out_BT.numel()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same in page-locked memory, from which a GPU copies without waiting."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            source_BS=function(self.source_BS),
            target_in_BT=function(self.target_in_BT),
            target_out_BT=function(self.target_out_BT),
            indices_B=function(self.indices_B),
        )


def _by_length(source_N: Int64, target_N: Int64, ties_N: npt.NDArray[np.float64] | None = None) -> Int64:
    """Sort sentences by their longest side, then by how the sides differ; neighbours are alike on both.

    Every other length is walked backwards, so that differing sides do not jump between two lengths.
    """
    longest_N, difference_N = np.maximum(source_N, target_N), target_N - source_N
    winding_N = np.where(longest_N % 2 == 0, difference_N, -difference_N)
    ties_N = np.zeros(len(source_N)) if ties_N is None else ties_N
    return np.lexsort((ties_N, winding_N, longest_N))


def plan_epoch(
    source_N: Int64, target_N: Int64, batch_tokens: int, *, seed: int, epoch: int, shuffle: bool
) -> list[Int64]:
    """Each update's sentences, given all lengths: sentences x longest side <= `batch_tokens`.

    Sentences of like lengths come together; which of equals, and the order of updates, is drawn anew from
    (seed, epoch). How many updates there are, and how large, is the same in every epoch.

    Raises:
        ValueError: a sentence longer than `batch_tokens`.
    """
    longest_N = np.maximum(source_N, target_N)
    if longest_N.max(initial=0) > batch_tokens:
        raise ValueError(f"a sentence of {longest_N.max()} tokens; expected at most batch_tokens={batch_tokens}")
    random = np.random.default_rng((seed, epoch))
    order_N = _by_length(source_N, target_N, random.random(len(longest_N)) if shuffle else None)
    updates, start = [], 0
    for end, longest in enumerate(longest_N[order_N].tolist()):  # ascending: the last is the widest
        if longest * (end + 1 - start) > batch_tokens:
            updates.append(order_N[start:end])
            start = end
    if start < len(order_N):
        updates.append(order_N[start:])
    return [updates[i] for i in random.permutation(len(updates))] if shuffle else updates


def first_updates(pairs: EncodedPairs, batch_tokens: int, count: int, *, seed: int) -> EncodedPairs:
    """Only the sentences of the first so many updates: what a run overfits to look for a fault."""
    lengths = pairs.source_lengths_N, pairs.target_lengths_N
    plan = plan_epoch(*lengths, batch_tokens, seed=seed, epoch=0, shuffle=True)
    return pairs.select(np.concatenate(plan[:count]))


def update_sampler(
    pairs: EncodedPairs, batch_tokens: int, *, seed: int, rank: int = 0, world_size: int = 1, accumulate: int = 1
) -> UpdateSampler:
    """This rank's shares of every update of an epoch, bucketed by length."""
    lengths = pairs.source_lengths_N, pairs.target_lengths_N

    def plan(epoch: int) -> list[Int64]:
        return plan_epoch(*lengths, batch_tokens, seed=seed, epoch=epoch, shuffle=True)

    return UpdateSampler(plan, lengths[1], rank=rank, world_size=world_size, accumulate=accumulate)


def evaluation_sampler(
    pairs: EncodedPairs, batch_tokens: int, *, rank: int = 0, world_size: int = 1
) -> EvaluationSampler:
    """This rank's batches of a split, sentences of like lengths together."""
    source_N, target_N = pairs.source_lengths_N, pairs.target_lengths_N
    mine_N = _by_length(source_N, target_N)[rank::world_size]
    plan = plan_epoch(source_N[mine_N], target_N[mine_N], batch_tokens, seed=0, epoch=0, shuffle=False)
    return EvaluationSampler([mine_N[rows_B] for rows_B in plan], target_N)


class _Batches(Dataset[Batch]):
    """Shares to batches."""

    def __init__(self, pairs: EncodedPairs) -> None:
        self._pairs = pairs

    def __getitem__(self, share: Share) -> Batch:
        pairs, rows_B = self._pairs, share.rows_B
        target_out_BT = pairs.target.padded(rows_B, first=1)
        num_source, num_target = (
            int(pairs.source_lengths_N[rows_B].sum()),
            int(pairs.target_lengths_N[rows_B].sum()),
        )
        if share.silent:
            target_out_BT[:], num_source, num_target = PAD, 0, 0
        return Batch(
            source_BS=torch.from_numpy(pairs.source.padded(rows_B)),
            target_in_BT=torch.from_numpy(pairs.target.padded(rows_B, last=1)),
            target_out_BT=torch.from_numpy(target_out_BT),
            indices_B=torch.from_numpy(pairs.indices_N[rows_B]),
            num_tokens=num_target,
            num_source_tokens=num_source,
            update_tokens=share.update_units,
        )


def loader(
    pairs: EncodedPairs,
    sampler: UpdateSampler | EvaluationSampler,
    *,
    workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """A loader of `Batch`; the batches do not depend on `workers`."""
    return DataLoader(_Batches(pairs), batch_size=None, sampler=sampler, num_workers=workers, pin_memory=pin_memory)
