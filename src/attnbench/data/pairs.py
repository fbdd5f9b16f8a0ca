"""Sentence pairs of any data set: splits, references for scoring, and checksums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.data import Language

TOKENIZED, DETOKENIZED = "tokenized", "detokenized"  # the keys of `Split.references`

_NON_BREAKING = str.maketrans("\u202f\xa0", "  ")

Alignment = tuple[tuple[int, int], ...]  # (source word, target word), counted from 0


class Preprocessing(Enum):
    """Preprocessing of a line before it is tokenized; a checkpoint stores it for new text."""

    spaces = "spaces"  # runs of white space become one space
    d2l = "d2l"  # lower-cased, punctuation apart: d2l.ai, chapter 10.5

    def __call__(self, line: str) -> str:
        """Return the preprocessed line."""
        if self is Preprocessing.spaces:
            return " ".join(line.split())
        line = line.translate(_NON_BREAKING).lower()
        for mark in ",.!?":
            line = line.replace(mark, " " + mark)
        # Only spaces part words in the book: a thin space (U+2009) stays inside one.
        return " ".join(word for word in line.split(" ") if word)


@dataclass(frozen=True)
class Split:
    """Sentence pairs, preprocessed for the tokenizer, and the references for scoring."""

    name: str  # train, val, test, or that of a further test set
    source: list[str]
    target: list[str]
    references: dict[str, list[str]]  # keys TOKENISED, DETOKENISED or both; one reference per sentence
    files: tuple[str, str]  # where source and target came from, for messages
    lines: Sequence[int]  # each pair's line there, counted from 1
    alignment: list[Alignment] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def describe_location(self, index: int, side: int) -> str:
        """Return file and line of a sentence.

        Args:
            index: index of the pair.
            side: 0 for source, 1 for target.
        """
        return f"{self.files[side]}:{self.lines[index]}"


@dataclass(frozen=True)
class ParallelText:
    """A complete set of sentence pairs."""

    train: Split
    val: Split
    test: Split
    vocabulary_splits: tuple[Split, ...]  # training text of the tokenizers
    is_tokenized: bool  # translations are tokenized text; they are detokenized before scoring as ordinary text
    preprocessing: Preprocessing = Preprocessing.spaces
    source_language: Language | None = None
    target_language: Language | None = None
    checksums: dict[str, str] = field(default_factory=dict)  # file name: SHA-256
    notes: list[str] = field(default_factory=list)  # notes for the record
    extra_tests: tuple[Split, ...] = ()  # further test sets

    @property
    def splits(self) -> tuple[Split, ...]:
        """All splits: train, validation, test, extra tests."""
        return (self.train, self.val, self.test, *self.extra_tests)
