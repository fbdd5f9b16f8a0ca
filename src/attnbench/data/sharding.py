"""Divides updates among ranks and micro-batches, for sentences and images alike.

Legend: N examples of the split, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MicroBatchSpec:
    """Specification of a micro-batch: its rows, and the units of the whole update.

    `is_empty` micro-batches have weight zero.
    """

    rows_B: Int64
    num_update_units: float  # of the whole update, over all ranks and accumulated batches
    epoch: int = 0
    is_empty: bool = False


class UpdateSampler(Sampler[MicroBatchSpec]):
    """Sampler of this rank's micro-batches of every update of an epoch.

    Updates are planned independently of the number of ranks, then cut into `world_size` x `num_micro_batches` parts.
    An update with fewer examples than parts is filled with empty micro-batches, so that all ranks take the same
    number of steps. Lightning calls `set_epoch`, because the loader has this as its `sampler`.
    """

    def __init__(
        self,
        plan: Callable[[int], Sequence[Int64]],
        units_N: Int64,
        *,
        rank: int = 0,
        world_size: int = 1,
        num_micro_batches: int = 1,
    ) -> None:
        """Store the plan.

        Args:
            plan: returns the examples of each update of an epoch; the number of updates is the same in each epoch.
            units_N: units (target tokens, images) of each example.
            rank: rank of this process.
            world_size: number of processes.
            num_micro_batches: micro-batches of an update that each process computes one after the other.
        """
        self._plan, self._units_N = plan, units_N
        self._rank, self._world_size, self._accumulate = rank, world_size, num_micro_batches
        self._epoch = 0
        self._done = (0, 0)  # an epoch, and how many of its batches are done
        self._count = len(plan(0)) * num_micro_batches

    def __len__(self) -> int:
        """Return the number of micro-batches of this rank in an epoch: equal for every rank and epoch."""
        return self._count

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self._epoch = epoch

    def resume(self, epoch: int, num_batches: int) -> None:
        """Make the iterations over `epoch` start after `num_batches` micro-batches of this rank.

        Args:
            epoch: epoch of the checkpoint.
            num_batches: micro-batches of this rank that are done.
        """
        self._done = (epoch, num_batches)

    def __iter__(self) -> Iterator[MicroBatchSpec]:
        first = self._done[1] if self._done[0] == self._epoch else 0
        updates = self._plan(self._epoch)
        for number in range(first, self._count):
            update, turn = divmod(number, self._accumulate)
            yield self._build_micro_batch(updates[update], turn)

    def _build_micro_batch(self, update_B: Int64, part: int) -> MicroBatchSpec:
        units = float(self._units_N[update_B].sum())
        shares = self._world_size * self._accumulate
        # Strided, because neighboring examples in an update may have similar lengths.
        rows_B = update_B[part * self._world_size + self._rank :: shares]
        if len(rows_B):
            return MicroBatchSpec(rows_B, units, self._epoch)
        return MicroBatchSpec(update_B[:1], units, self._epoch, is_empty=True)


class EvaluationSampler(Sampler[MicroBatchSpec]):
    """Sampler of this rank's batches of a split, in a fixed order; every example is seen once over all ranks.

    Ranks may get unequal numbers of batches: no example is repeated to make them equal.
    """

    def __init__(self, batches: Sequence[Int64], units_N: Int64) -> None:
        self._shares = [MicroBatchSpec(rows_B, float(units_N[rows_B].sum())) for rows_B in batches]

    def __len__(self) -> int:
        """Return the number of batches of this rank."""
        return len(self._shares)

    def __iter__(self) -> Iterator[MicroBatchSpec]:
        return iter(self._shares)
