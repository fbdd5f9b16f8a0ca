"""Sentence pairs as flat arrays of token indices, and the pair of tokenizers that made them.

Legend: N sentences, T all their tokens, B rows, L tokens of the longest row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers

from attnbench.config.data import OverLong, ParallelTextConfig, Segmenter
from attnbench.data.errors import DataError
from attnbench.data.pairs import ParallelText, Preparation, Split
from attnbench.data.text_files import write_atomically
from attnbench.data.tokenizer import BOS, EOS, PAD, SPECIALS, Tokenizer

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_CHUNK = 20_000  # lines encoded at once: bounds what Python lists cost beside the arrays


@dataclass(frozen=True)
class Sequences:
    """Sentences of any length in one array: sentence i is flat_T[offsets[i] : offsets[i + 1]]."""

    flat_T: Int32
    offsets: Int64  # N + 1

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths_N(self) -> Int64:
        """Tokens in each sentence."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> Int32:
        return self.flat_T[self.offsets[index] : self.offsets[index + 1]]

    def padded(self, rows_B: Int64, *, first: int = 0, last: int = 0) -> Int64:
        """These sentences as a matrix BL, without their `first` and `last` tokens, filled up with PAD."""
        starts_B = self.offsets[rows_B] + first
        lengths_B = self.offsets[rows_B + 1] - last - starts_B
        columns_L = np.arange(lengths_B.max(initial=0))
        where_BL = np.minimum(starts_B[:, None] + columns_L, len(self.flat_T) - 1)
        return np.where(columns_L < lengths_B[:, None], self.flat_T[where_BL], PAD).astype(np.int64)

    def select(self, rows_B: Int64) -> Sequences:
        """These sentences only, in this order."""
        lengths_B = self.lengths_N[rows_B]
        chosen = _sequences(np.empty(lengths_B.sum(), np.int32), lengths_B)
        shifts_B = self.offsets[rows_B] - chosen.offsets[:-1]
        chosen.flat_T[:] = self.flat_T[np.arange(len(chosen.flat_T)) + np.repeat(shifts_B, lengths_B)]
        return chosen


def _sequences(flat_T: Int32, lengths_N: Int64) -> Sequences:
    return Sequences(flat_T, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_N, dtype=np.int64)]))


def encode(
    tokenizer: Tokenizer,
    lines: Sequence[str],
    *,
    begin: bool = False,
    backwards: bool = False,
    limit: int | None = None,
) -> Sequences:
    """Turn lines into token indices and EOS.

    `limit`: at most so many tokens, EOS included; `backwards`: what is left of the line reversed; `begin`:
    BOS before it.
    """
    flat, lengths = [np.zeros(0, np.int32)], []
    head, end = [BOS] if begin else [], None if limit is None else limit - 1
    step = -1 if backwards else 1
    for start in range(0, len(lines), _CHUNK):
        part: list[int] = []
        for ids in tokenizer.encode(lines[start : start + _CHUNK]):
            before = len(part)
            part += head
            part += ids[:end][::step]
            part.append(EOS)
            lengths.append(len(part) - before)
        flat.append(np.array(part, dtype=np.int32))
    return _sequences(np.concatenate(flat), np.array(lengths, dtype=np.int64))


@dataclass(frozen=True)
class EncodedPairs:
    """One split as arrays: sources end with EOS, targets begin with BOS and end with EOS."""

    source: Sequences
    target: Sequences
    indices_N: Int64  # where each pair stands in its Split: some may have been dropped
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices_N)

    @property
    def source_lengths_N(self) -> Int64:
        """Tokens in each source, EOS included."""
        return self.source.lengths_N

    @property
    def target_lengths_N(self) -> Int64:
        """Tokens to predict for each target, EOS included."""
        return self.target.lengths_N - 1

    def select(self, rows_B: Int64) -> EncodedPairs:
        """These pairs only, in this order."""
        return replace(
            self,
            source=self.source.select(rows_B),
            target=self.target.select(rows_B),
            indices_N=self.indices_N[rows_B],
        )


@dataclass(frozen=True)
class Codec:
    """What turns text into model input and back; travels inside checkpoints as JSON."""

    source: Tokenizer
    target: Tokenizer  # the same object when the vocabulary is joint
    preparation: Preparation = Preparation.spaces
    reverse_source: bool = False

    @property
    def joint(self) -> bool:
        """Whether both languages share one vocabulary."""
        return self.source is self.target

    def encode_source(self, lines: Sequence[str], limit: int | None = None) -> Sequences:
        """Turn new text, as a user types it, into sources that end with EOS, cut to `limit` tokens."""
        prepared = [self.preparation(line) for line in lines]
        return encode(self.source, prepared, backwards=self.reverse_source, limit=limit)

    def encode_pairs(self, split: Split, *, max_len: int, over_long: OverLong) -> EncodedPairs:
        """Turn a split into arrays; pairs over `max_len` tokens (EOS included) are refused, dropped or cut.

        Only training pairs are dropped; in other splits they are cut, since every sentence is scored.

        Raises:
            DataError: a sentence over the limit with `over_long=refuse`; a split with nothing left.
        """
        pairs = self._encode(split, None)
        lengths_2N = np.stack([pairs.source_lengths_N, pairs.target_lengths_N])
        over_N = lengths_2N.max(axis=0) > max_len
        count = int(over_N.sum())
        if not count:
            return pairs
        if over_long is OverLong.refuse:
            row = int(over_N.argmax())
            side = int(lengths_2N[:, row].argmax())
            raise DataError(
                f"{split.where(row, side)}: {lengths_2N[side, row]} tokens; expected at most "
                f"data.max_len={max_len} (data.over_long=drop or truncate takes the set all the same)"
            )
        note = f"{split.name}: {count:,} of {len(split):,} pairs over {max_len} tokens"
        if over_long is OverLong.truncate or split.name != "train":
            return replace(self._encode(split, max_len), notes=[f"{note} truncated"])
        if count == len(split):
            raise DataError(f"{split.files[0]}: every pair is over data.max_len={max_len} tokens; expected some under")
        return replace(pairs.select(np.flatnonzero(~over_N)), notes=[f"{note} dropped"])

    def _encode(self, split: Split, limit: int | None) -> EncodedPairs:
        return EncodedPairs(
            encode(self.source, split.source, backwards=self.reverse_source, limit=limit),
            encode(self.target, split.target, begin=True, limit=limit),
            np.arange(len(split)),
        )

    def check_fits(self, saved: str, where: str) -> None:
        """Refuse a checkpoint whose vocabulary, `saved` by `to_json`, is not this one.

        Raises:
            DataError: it is another.
        """
        if saved == self.to_json():
            return
        other = Codec.from_json(saved)
        raise DataError(
            f"{where}: has another vocabulary ({other.source.size:,} source and {other.target.size:,} target "
            f"tokens); expected that of the data here ({self.source.size:,} and {self.target.size:,})"
        )

    def to_json(self) -> str:
        """All of it, as text."""
        return json.dumps(
            {
                "source": self.source.to_json(),
                "target": None if self.joint else self.target.to_json(),
                "preparation": self.preparation.name,
                "reverse_source": self.reverse_source,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Codec:
        """What `to_json` wrote."""
        values = json.loads(text)
        source = Tokenizer.from_json(values["source"])
        target = source if values["target"] is None else Tokenizer.from_json(values["target"])
        return cls(source, target, Preparation[values["preparation"]], values["reverse_source"])


def train_codec(text: ParallelText, config: ParallelTextConfig, cache: Path | None = None) -> Codec:
    """Learn the vocabularies that a config asks for, or take them from the folder `cache` if it has them.

    Raises:
        DataError: a vocabulary without a single word or piece of the text.
    """
    source_lines = [line for split in text.vocabulary_from for line in split.source]
    target_lines = [line for split in text.vocabulary_from for line in split.target]
    if config.joint_vocabulary:
        source = target = _tokenizer(source_lines + target_lines, config, cache)
    else:
        source, target = (_tokenizer(lines, config, cache) for lines in (source_lines, target_lines))
    for side, tokenizer in (("source", source), ("target", target)):
        if tokenizer.size <= len(SPECIALS):
            raise DataError(
                f"the {side} vocabulary holds nothing but {', '.join(SPECIALS)}: no word occurs"
                f" data.min_frequency={config.min_frequency} times; expected a lower data.min_frequency or more text"
            )
    return Codec(source, target, text.preparation, config.reverse_source)


def _tokenizer(lines: list[str], config: ParallelTextConfig, cache: Path | None) -> Tokenizer:
    if cache is None or config.segmenter is Segmenter.word:  # counting words takes no time
        return _train(lines, config)
    settings = (config.segmenter.name, config.vocab_size, config.min_frequency, tokenizers.__version__)
    key = hashlib.sha256(json.dumps(settings).encode())
    for line in lines:
        key.update(line.encode() + b"\n")
    path = cache / "tokenizers" / f"{key.hexdigest()}.json"
    with suppress(Exception):  # not there, or damaged: of that the library says no more than Exception
        return Tokenizer.from_json(path.read_text("utf-8"))
    tokenizer = _train(lines, config)
    with suppress(OSError):  # a folder that cannot be written to costs seconds, not a run
        write_atomically(path, tokenizer.to_json().encode())
    return tokenizer


def _train(lines: list[str], config: ParallelTextConfig) -> Tokenizer:
    return Tokenizer.train(lines, config.segmenter, vocab_size=config.vocab_size, min_frequency=config.min_frequency)
