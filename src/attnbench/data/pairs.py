"""What every set of sentence pairs becomes: splits, references to score against, and where they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.data import Language

TOKENISED, DETOKENISED = "tokenised", "detokenised"  # the keys of `Split.references`

_NON_BREAKING = str.maketrans("\u202f\xa0", "  ")

Alignment = tuple[tuple[int, int], ...]  # (source word, target word), counted from 0


class Preparation(Enum):
    """What happens to a line before it is tokenised; a checkpoint remembers it for new text."""

    spaces = "spaces"  # runs of white space become one space
    d2l = "d2l"  # lower-cased, punctuation apart: d2l.ai, chapter 10.5

    def __call__(self, line: str) -> str:
        """The line as the tokenizer shall see it."""
        if self is Preparation.spaces:
            return " ".join(line.split())
        line = line.translate(_NON_BREAKING).lower()
        for mark in ",.!?":
            line = line.replace(mark, " " + mark)
        # Only spaces part words in the book: a thin space (U+2009) stays inside one.
        return " ".join(word for word in line.split(" ") if word)


@dataclass(frozen=True)
class Split:
    """Pairs of sentences, prepared for the tokenizer, and the texts to score translations against."""

    name: str  # train, val, test, or that of a further test set
    source: list[str]
    target: list[str]
    references: dict[str, list[str]]  # TOKENISED and/or DETOKENISED: one reference a sentence
    files: tuple[str, str]  # where source and target came from, for messages
    lines: Sequence[int]  # each pair's line there, counted from 1
    alignment: list[Alignment] | None = None

    def __len__(self) -> int:
        return len(self.source)

    def where(self, index: int, side: int) -> str:
        """File and line of a sentence: side 0 source, 1 target."""
        return f"{self.files[side]}:{self.lines[index]}"


@dataclass(frozen=True)
class ParallelText:
    """A set of sentence pairs, whole."""

    train: Split
    val: Split
    test: Split
    vocabulary_from: tuple[Split, ...]  # what the tokenizers are trained on
    tokenised: bool  # translations come out as tokenised text: detokenise before DETOKENISED scoring
    preparation: Preparation = Preparation.spaces
    source_language: Language | None = None
    target_language: Language | None = None
    checksums: dict[str, str] = field(default_factory=dict)  # file name: SHA-256
    notes: list[str] = field(default_factory=list)  # what a record must say of the data
    more_tests: tuple[Split, ...] = ()  # test sets beyond the one that a run is known by

    @property
    def splits(self) -> tuple[Split, ...]:
        """All of them."""
        return (self.train, self.val, self.test, *self.more_tests)
