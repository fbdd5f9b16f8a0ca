"""Batches by token count: which sentences make an update, which of them are this rank's, and as tensors.

Legend: N sentences of the split, B sentences of a batch, S source tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from attnbench.data.encoding import EncodedPairs
from attnbench.data.tokenizer import PAD

Int64 = npt.NDArray[np.int64]


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


@dataclass(frozen=True)
class Share:
    """A batch's recipe: which rows, and the whole update's target tokens; `silent`: it teaches nothing."""

    rows_B: Int64
    update_tokens: float
    silent: bool = False


class UpdateSampler(Sampler[Share]):
    """This rank's shares of every update of an epoch.

    An update is planned without a thought for ranks; then cut into `world_size` x `accumulate` shares, of
    which every rank has `accumulate`. An update with fewer sentences than shares fills up with silent ones,
    so that ranks keep step. Lightning calls `set_epoch` since a loader has this as its `sampler`.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        batch_tokens: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
    ) -> None:
        self._lengths = pairs.source_lengths_N, pairs.target_lengths_N
        self._batch_tokens, self._seed = batch_tokens, seed
        self._rank, self._world_size, self._accumulate = rank, world_size, accumulate
        self._epoch = 0
        self._done = (0, 0)  # an epoch, and how many of its batches are done
        self._count = len(self._plan(0)) * accumulate

    def _plan(self, epoch: int) -> list[Int64]:
        return plan_epoch(*self._lengths, self._batch_tokens, seed=self._seed, epoch=epoch, shuffle=True)

    def __len__(self) -> int:
        """Shares of this rank in an epoch: the same for every rank and epoch, skipped ones included."""
        return self._count

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration is of."""
        self._epoch = epoch

    def resume(self, epoch: int, batches: int) -> None:
        """Let iterations over `epoch`, and only those, begin after so many of this rank's batches."""
        self._done = (epoch, batches)

    def __iter__(self) -> Iterator[Share]:
        first = self._done[1] if self._done[0] == self._epoch else 0
        updates = self._plan(self._epoch)
        for number in range(first, self._count):
            update, turn = divmod(number, self._accumulate)
            yield self._share(updates[update], turn)

    def _share(self, update_B: Int64, turn: int) -> Share:
        tokens = float(self._lengths[1][update_B].sum())
        shares = self._world_size * self._accumulate
        # Every so-many-th, since neighbours in an update have like lengths.
        rows_B = update_B[turn * self._world_size + self._rank :: shares]
        return Share(rows_B, tokens) if len(rows_B) else Share(update_B[:1], tokens, silent=True)


class EvaluationSampler(Sampler[Share]):
    """This rank's batches of a split whose every sentence is seen once over all ranks, always in one order.

    Ranks may get unequal numbers of batches: nothing is repeated to make them equal.
    """

    def __init__(self, pairs: EncodedPairs, batch_tokens: int, *, rank: int = 0, world_size: int = 1) -> None:
        source_N, target_N = pairs.source_lengths_N, pairs.target_lengths_N
        mine_N = _by_length(source_N, target_N)[rank::world_size]
        plan = plan_epoch(source_N[mine_N], target_N[mine_N], batch_tokens, seed=0, epoch=0, shuffle=False)
        self._shares = [Share(mine_N[rows_B], float(target_N[mine_N[rows_B]].sum())) for rows_B in plan]

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self._shares)

    def __iter__(self) -> Iterator[Share]:
        return iter(self._shares)


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
            update_tokens=share.update_tokens,
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
