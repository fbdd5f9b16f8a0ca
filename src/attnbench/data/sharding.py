"""Which examples make an update, and which of them are this rank's: the same for sentences and pictures.

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
class Share:
    """A batch's recipe: which rows, and the whole update's units; `silent`: it teaches nothing."""

    rows_B: Int64
    update_units: float  # of the whole update, over all ranks and accumulated batches
    epoch: int = 0
    silent: bool = False


class UpdateSampler(Sampler[Share]):
    """This rank's shares of every update of an epoch.

    An update is planned without a thought for ranks; then cut into `world_size` x `accumulate` shares, of
    which every rank has `accumulate`. An update with fewer examples than shares fills up with silent ones,
    so that ranks keep step. Lightning calls `set_epoch` since a loader has this as its `sampler`.
    """

    def __init__(
        self,
        plan: Callable[[int], Sequence[Int64]],
        units_N: Int64,
        *,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
    ) -> None:
        """`plan` gives the examples of each update of an epoch, as many updates in each; `units_N` what each holds."""
        self._plan, self._units_N = plan, units_N
        self._rank, self._world_size, self._accumulate = rank, world_size, accumulate
        self._epoch = 0
        self._done = (0, 0)  # an epoch, and how many of its batches are done
        self._count = len(plan(0)) * accumulate

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
        units = float(self._units_N[update_B].sum())
        shares = self._world_size * self._accumulate
        # Every so-many-th, since neighbours in an update may be alike in length.
        rows_B = update_B[turn * self._world_size + self._rank :: shares]
        if len(rows_B):
            return Share(rows_B, units, self._epoch)
        return Share(update_B[:1], units, self._epoch, silent=True)


class EvaluationSampler(Sampler[Share]):
    """This rank's batches of a split whose every example is seen once over all ranks, always in one order.

    Ranks may get unequal numbers of batches: nothing is repeated to make them equal.
    """

    def __init__(self, batches: Sequence[Int64], units_N: Int64) -> None:
        self._shares = [Share(rows_B, float(units_N[rows_B].sum())) for rows_B in batches]

    def __len__(self) -> int:
        """Batches of this rank."""
        return len(self._shares)

    def __iter__(self) -> Iterator[Share]:
        return iter(self._shares)
