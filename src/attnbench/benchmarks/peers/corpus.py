"""Sentences for all peers: token ids in flat arrays, and batches of similar lengths.

Shapes: B sentences of a batch, L length of the longest one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Corpus:
    """Sentence pairs: sources end with EOS; targets begin with BOS and end with EOS."""

    def __init__(self, path: str, split: str) -> None:
        with np.load(path) as arrays:
            self.source, self.target = (
                np.split(arrays[f"{split}_{side}"], arrays[f"{split}_{side}_offsets"][1:-1])
                for side in ("source", "target")
            )

    def __len__(self) -> int:
        return len(self.source)

    def get_lengths(self) -> tuple[Array, Array]:
        """Return the number of tokens of each source, and of each target without BOS."""
        return np.array([len(ids) for ids in self.source]), np.array([len(ids) - 1 for ids in self.target])

    def build_batches(self, batch_tokens: int) -> list[Array]:
        """Build batches of similar lengths.

        Args:
            batch_tokens: largest number of positions on the longer side of a batch, padding included.

        Returns:
            Row numbers of each batch.
        """
        source_N, target_N = self.get_lengths()
        order_N = np.lexsort((source_N, target_N))
        found, start, longest = [], 0, 0
        for end, row in enumerate(order_N):
            wider = max(longest, int(source_N[row]), int(target_N[row]))
            if wider * (end + 1 - start) > batch_tokens:
                found.append(order_N[start:end])
                start, wider = end, max(int(source_N[row]), int(target_N[row]))
            longest = wider
        return [*found, order_N[start:]]

    def iterate_batches(self, batch_tokens: int) -> Iterator[Array]:
        """Yield batches without end, in another order in each epoch.

        Args:
            batch_tokens: see `build_batches`.
        """
        found, random = self.build_batches(batch_tokens), np.random.default_rng(1)
        while True:
            for number in random.permutation(len(found)):
                yield found[number]


def pad_sentences(sentences: list[Array], pad: int) -> Array:
    """Build ids_BL, filled with `pad`.

    Args:
        sentences: token ids of each sentence.
        pad: id of the padding token.
    """
    ids_BL = np.full((len(sentences), max(map(len, sentences))), pad, dtype=np.int64)
    for row_L, ids in zip(ids_BL, sentences, strict=True):
        row_L[: len(ids)] = ids
    return ids_BL
