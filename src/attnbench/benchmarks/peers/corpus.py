"""Sentences as every contender reads them: token ids in flat arrays, and batches of like lengths.

Legend: B sentences of a batch, L places of its longest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Corpus:
    """Sources that end with EOS; targets that begin with BOS and end with EOS."""

    def __init__(self, path: str, split: str) -> None:
        with np.load(path) as arrays:
            self.source, self.target = (
                np.split(arrays[f"{split}_{side}"], arrays[f"{split}_{side}_offsets"][1:-1])
                for side in ("source", "target")
            )

    def __len__(self) -> int:
        return len(self.source)

    def lengths(self) -> tuple[Array, Array]:
        """Tokens of each source, and of each target that are to be predicted."""
        return np.array([len(ids) for ids in self.source]), np.array([len(ids) - 1 for ids in self.target])

    def buckets(self, batch_tokens: int) -> list[Array]:
        """The rows of each batch: as many of like lengths as have `batch_tokens` places on their longer side."""
        source_N, target_N = self.lengths()
        order_N = np.lexsort((source_N, target_N))
        found, start, longest = [], 0, 0
        for end, row in enumerate(order_N):
            wider = max(longest, int(source_N[row]), int(target_N[row]))
            if wider * (end + 1 - start) > batch_tokens:
                found.append(order_N[start:end])
                start, wider = end, max(int(source_N[row]), int(target_N[row]))
            longest = wider
        return [*found, order_N[start:]]

    def epochs(self, batch_tokens: int) -> Iterator[Array]:
        """The rows of batch after batch, in another order each epoch, without an end."""
        found, random = self.buckets(batch_tokens), np.random.default_rng(1)
        while True:
            for number in random.permutation(len(found)):
                yield found[number]


def padded(sentences: list[Array], pad: int) -> Array:
    """ids_BL, filled up with `pad`."""
    ids_BL = np.full((len(sentences), max(map(len, sentences))), pad, dtype=np.int64)
    for row_L, ids in zip(ids_BL, sentences, strict=True):
        row_L[: len(ids)] = ids
    return ids_BL
