"""Sentence pairs as flat arrays of token indices, and the pair of tokenizers that encodes them.

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

from attnbench.config.data import OnTooLong, ParallelTextConfig, TokenizerType
from attnbench.data.errors import DataError
from attnbench.data.pairs import ParallelText, Preprocessing, Split
from attnbench.data.text_files import write_atomically
from attnbench.data.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, Tokenizer

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_LINES_PER_CHUNK = 20_000  # lines encoded at once, which limits the memory of Python lists


@dataclass(frozen=True)
class Sequences:
    """Sentences of any length in one array: sentence i is flat_T[offsets[i] : offsets[i + 1]]."""

    flat_T: Int32
    offsets: Int64  # N + 1

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths_N(self) -> Int64:
        """Number of tokens of each sentence."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> Int32:
        return self.flat_T[self.offsets[index] : self.offsets[index + 1]]

    def pad_rows(self, rows_B: Int64, *, skip_first: int = 0, skip_last: int = 0) -> Int64:
        """Return sentences as a matrix BL, padded at the end.

        Args:
            rows_B: indices of the sentences.
            skip_first: number of tokens to leave out at the start of each sentence.
            skip_last: number of tokens to leave out at the end of each sentence.
        """
        starts_B = self.offsets[rows_B] + skip_first
        lengths_B = self.offsets[rows_B + 1] - skip_last - starts_B
        columns_L = np.arange(lengths_B.max(initial=0))
        where_BL = np.minimum(starts_B[:, None] + columns_L, len(self.flat_T) - 1)
        return np.where(columns_L < lengths_B[:, None], self.flat_T[where_BL], PAD).astype(np.int64)

    def select(self, rows_B: Int64) -> Sequences:
        """Return only these sentences, in this order."""
        lengths_B = self.lengths_N[rows_B]
        chosen = _build_sequences(np.empty(lengths_B.sum(), np.int32), lengths_B)
        shifts_B = self.offsets[rows_B] - chosen.offsets[:-1]
        chosen.flat_T[:] = self.flat_T[np.arange(len(chosen.flat_T)) + np.repeat(shifts_B, lengths_B)]
        return chosen


def _build_sequences(flat_T: Int32, lengths_N: Int64) -> Sequences:
    return Sequences(flat_T, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_N, dtype=np.int64)]))


def encode_lines(
    tokenizer: Tokenizer,
    lines: Sequence[str],
    *,
    add_bos: bool = False,
    is_reversed: bool = False,
    max_tokens: int | None = None,
) -> Sequences:
    """Encode lines as token indices, each followed by EOS.

    Args:
        tokenizer: trained vocabulary.
        lines: text.
        add_bos: put BOS before each line.
        is_reversed: reverse the tokens of a line (after it was cut).
        max_tokens: maximum number of tokens, EOS included; None: no limit.
    """
    flat, lengths = [np.zeros(0, np.int32)], []
    head, end = [BOS] if add_bos else [], None if max_tokens is None else max_tokens - 1
    step = -1 if is_reversed else 1
    for start in range(0, len(lines), _LINES_PER_CHUNK):
        part: list[int] = []
        for ids in tokenizer.encode(lines[start : start + _LINES_PER_CHUNK]):
            before = len(part)
            part += head
            part += ids[:end][::step]
            part.append(EOS)
            lengths.append(len(part) - before)
        flat.append(np.array(part, dtype=np.int32))
    return _build_sequences(np.concatenate(flat), np.array(lengths, dtype=np.int64))


@dataclass(frozen=True)
class EncodedPairs:
    """One split as arrays: sources end with EOS, targets begin with BOS and end with EOS."""

    source: Sequences
    target: Sequences
    indices_N: Int64  # index of each pair in its Split; pairs may have been dropped
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices_N)

    @property
    def source_lengths_N(self) -> Int64:
        """Number of tokens of each source, EOS included."""
        return self.source.lengths_N

    @property
    def target_lengths_N(self) -> Int64:
        """Number of tokens to predict for each target, EOS included."""
        return self.target.lengths_N - 1

    def select(self, rows_B: Int64) -> EncodedPairs:
        """Return only these pairs, in this order."""
        return replace(
            self,
            source=self.source.select(rows_B),
            target=self.target.select(rows_B),
            indices_N=self.indices_N[rows_B],
        )


@dataclass(frozen=True)
class TokenizerPair:
    """Tokenizers of source and target, with the preprocessing before them; checkpoints store them as JSON."""

    source: Tokenizer
    target: Tokenizer  # the same object when the vocabulary is joint
    preprocessing: Preprocessing = Preprocessing.spaces
    reverse_source: bool = False

    @property
    def is_joint(self) -> bool:
        """True if both languages share one vocabulary."""
        return self.source is self.target

    def encode_source(self, lines: Sequence[str], max_tokens: int | None = None) -> Sequences:
        """Encode new text as sources that end with EOS, cut to `max_tokens` tokens.

        Args:
            lines: sentences.
            max_tokens: largest number of tokens, EOS included.
        """
        prepared = [self.preprocessing(line) for line in lines]
        return encode_lines(self.source, prepared, is_reversed=self.reverse_source, max_tokens=max_tokens)

    def encode_pairs(self, split: Split, *, max_len: int, on_too_long: OnTooLong) -> EncodedPairs:
        """Encode a split.

        Args:
            split: sentence pairs.
            max_len: maximum number of tokens of each side, EOS included.
            on_too_long: for training pairs over `max_len`: raise an error, drop or cut them. Pairs of other splits
                are cut, because every sentence is scored.

        Raises:
            DataError: if a sentence is too long with on_too_long=error, or if no pair is left.
        """
        pairs = self._encode_split(split, None)
        lengths_2N = np.stack([pairs.source_lengths_N, pairs.target_lengths_N])
        over_N = lengths_2N.max(axis=0) > max_len
        count = int(over_N.sum())
        if not count:
            return pairs
        if on_too_long is OnTooLong.error:
            row = int(over_N.argmax())
            side = int(lengths_2N[:, row].argmax())
            raise DataError(
                f"{split.describe_location(row, side)}: {lengths_2N[side, row]} tokens; expected at most "
                f"data.max_len={max_len} (data.on_too_long=drop or truncate takes the set all the same)"
            )
        note = f"{split.name}: {count:,} of {len(split):,} pairs over {max_len} tokens"
        if on_too_long is OnTooLong.truncate or split.name != "train":
            return replace(self._encode_split(split, max_len), notes=[f"{note} truncated"])
        if count == len(split):
            raise DataError(f"{split.files[0]}: every pair is over data.max_len={max_len} tokens; expected some under")
        return replace(pairs.select(np.flatnonzero(~over_N)), notes=[f"{note} dropped"])

    def _encode_split(self, split: Split, max_tokens: int | None) -> EncodedPairs:
        return EncodedPairs(
            encode_lines(self.source, split.source, is_reversed=self.reverse_source, max_tokens=max_tokens),
            encode_lines(self.target, split.target, add_bos=True, max_tokens=max_tokens),
            np.arange(len(split)),
        )

    def check_same_vocabulary(self, saved: str, location: str) -> None:
        """Check that a checkpoint's tokenizers are these.

        Args:
            saved: tokenizers of the checkpoint, from `to_json`.
            location: name of the checkpoint in the message.

        Raises:
            DataError: if they differ.
        """
        if saved == self.to_json():
            return
        other = TokenizerPair.from_json(saved)
        raise DataError(
            f"{location}: has another vocabulary ({other.source.size:,} source and {other.target.size:,} target "
            f"tokens); expected that of the data here ({self.source.size:,} and {self.target.size:,})"
        )

    def to_json(self) -> str:
        """Return both tokenizers and the preprocessing as text."""
        return json.dumps(
            {
                "source": self.source.to_json(),
                "target": None if self.is_joint else self.target.to_json(),
                "preparation": self.preprocessing.name,
                "reverse_source": self.reverse_source,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> TokenizerPair:
        """Build a `TokenizerPair` from the result of `to_json`."""
        values = json.loads(text)
        source = Tokenizer.from_json(values["source"])
        target = source if values["target"] is None else Tokenizer.from_json(values["target"])
        return cls(source, target, Preprocessing[values["preparation"]], values["reverse_source"])


def train_tokenizers(text: ParallelText, config: ParallelTextConfig, cache: Path | None = None) -> TokenizerPair:
    """Train the tokenizers that a config asks for, or load them from a cache.

    Args:
        text: data set.
        config: kind and size of the vocabularies.
        cache: folder of trained tokenizers; None: always train.

    Raises:
        DataError: if a vocabulary contains no word or piece of the text.
    """
    source_lines = [line for split in text.vocabulary_splits for line in split.source]
    target_lines = [line for split in text.vocabulary_splits for line in split.target]
    if config.joint_vocabulary:
        source = target = _load_or_train_tokenizer(source_lines + target_lines, config, cache)
    else:
        source, target = (_load_or_train_tokenizer(lines, config, cache) for lines in (source_lines, target_lines))
    for side, tokenizer in (("source", source), ("target", target)):
        if tokenizer.size <= len(SPECIAL_TOKENS):
            raise DataError(
                f"the {side} vocabulary holds nothing but {', '.join(SPECIAL_TOKENS)}: no word occurs"
                f" data.min_frequency={config.min_frequency} times; expected a lower data.min_frequency or more text"
            )
    return TokenizerPair(source, target, text.preprocessing, config.reverse_source)


def _load_or_train_tokenizer(lines: list[str], config: ParallelTextConfig, cache: Path | None) -> Tokenizer:
    if cache is None or config.tokenizer_type is TokenizerType.word:  # counting words takes no time
        return _train_tokenizer(lines, config)
    settings = (config.tokenizer_type.name, config.vocab_size, config.min_frequency, tokenizers.__version__)
    key = hashlib.sha256(json.dumps(settings).encode())
    for line in lines:
        key.update(line.encode() + b"\n")
    path = cache / "tokenizers" / f"{key.hexdigest()}.json"
    with suppress(Exception):  # missing or damaged; for damage the library raises a plain Exception
        return Tokenizer.from_json(path.read_text("utf-8"))
    tokenizer = _train_tokenizer(lines, config)
    with suppress(OSError):  # if the cache cannot be written, the tokenizer is trained again next time
        write_atomically(path, tokenizer.to_json().encode())
    return tokenizer


def _train_tokenizer(lines: list[str], config: ParallelTextConfig) -> Tokenizer:
    return Tokenizer.train(
        lines, config.tokenizer_type, vocab_size=config.vocab_size, min_frequency=config.min_frequency
    )
