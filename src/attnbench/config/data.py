"""Config of text data sets, one dataclass per source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.fields import Fault, bounded_field, path_field, seed_field

# Sentences and vocabularies are held in memory, and positions of a sentence squared.
_MAX_PAIRS = 10**9
_MAX_TOKENS = 2**20
_MAX_VOCAB_SIZE = 10**6
# Words of the synthetic language are drawn until this many are different.
_MAX_WORDS = 10_000
_MAX_CLAUSES = 100


class TokenizerType(Enum):
    """Tokenizer (data/tokenizer.py)."""

    bpe = "bpe"  # byte-pair encoding learned on the training text: Sennrich et al. 2016
    word = "word"  # white space


class Language(Enum):
    """Languages of Multi30k, Tatoeba and WMT 2014."""

    en = "en"
    de = "de"
    fr = "fr"


class TextVariant(Enum):
    """Published form of Multi30k."""

    raw = "raw"
    tokenized = "tokenized"  # .lc.norm.tok.: lower-cased, normalized, Moses-tokenized


class OnTooLong(Enum):
    """Treatment of training pairs longer than max_len."""

    error = "error"
    drop = "drop"
    truncate = "truncate"


@dataclass
class DataConfig:
    """Options of all data sets."""

    family: str = "none"  # names the dataclass in a record and a checkpoint

    @property
    def max_update_size(self) -> int:
        """Largest size of an update, in the unit of the batch."""
        raise NotImplementedError


@dataclass
class ParallelTextConfig(DataConfig):
    """Options of all data sets of sentence pairs."""

    tokenizer_type: TokenizerType = TokenizerType.bpe
    vocab_size: int = bounded_field(
        10000, minimum=8, maximum=_MAX_VOCAB_SIZE
    )  # bpe: pieces, special tokens included; word: most frequent
    min_frequency: int = bounded_field(1, minimum=1)  # rarer words become <unk>
    joint_vocabulary: bool = True  # one vocabulary for both languages
    batch_tokens: int = bounded_field(4096, minimum=1)  # an update: sentences x longest side, padding counted
    max_len: int = bounded_field(256, minimum=2, maximum=_MAX_TOKENS)  # tokens in a sentence, end of sentence included
    on_too_long: OnTooLong = OnTooLong.error
    reverse_source: bool = False  # Sutskever et al. 2014

    @property
    def max_update_size(self) -> int:
        """Largest size of an update, in tokens of the longer side, padding included."""
        return self.batch_tokens

    def find_faults(self) -> Iterator[Fault]:
        """Check that a batch can hold the longest sentence."""
        if self.batch_tokens < self.max_len:
            yield Fault("batch_tokens", f"{self.batch_tokens}", f"expected at least data.max_len={self.max_len}")


@dataclass
class LanguagePairConfig(ParallelTextConfig):
    """Data set that is published in several languages."""

    source: Language = Language.en
    target: Language = Language.de

    def find_faults(self) -> Iterator[Fault]:
        """Check that source and target language differ."""
        yield from super().find_faults()
        if self.source is self.target:
            yield Fault("target", self.target.name, f"expected a language other than data.source={self.source.name}")


@dataclass
class Multi30kConfig(LanguagePairConfig):
    """Multi30k task 1 (Elliott et al. 2016, 2017): 29,000 captions, val, test_2016_flickr."""

    family: str = "multi30k"
    variant: TextVariant = TextVariant.tokenized
    test_set: str = "test_2016_flickr"
    extra_test_sets: list[str] = field(default_factory=list)  # tested too, and recorded under their own names

    def find_faults(self) -> Iterator[Fault]:
        """Check that each test set is named once."""
        yield from super().find_faults()
        for name in self.extra_test_sets:
            if [self.test_set, *self.extra_test_sets].count(name) > 1:
                yield Fault(
                    "extra_test_sets", f"{self.extra_test_sets}", f"expected {name} once, data.test_set included"
                )
                return


@dataclass
class Wmt14Config(LanguagePairConfig):
    """WMT 2014: train, newstest2013 for validation, newstest2014 for test."""

    family: str = "wmt14"


@dataclass
class TatoebaConfig(LanguagePairConfig):
    """Tatoeba English-French with d2l.ai's preprocessing (chapter 10.5), or as a full set."""

    family: str = "tatoeba"
    source: Language = Language.en
    target: Language = Language.fr
    tokenizer_type: TokenizerType = TokenizerType.word
    train_pairs: int | None = bounded_field(
        512, minimum=1, maximum=_MAX_PAIRS
    )  # null: all that validation and test leave
    val_pairs: int = bounded_field(128, minimum=1, maximum=_MAX_PAIRS)

    def find_faults(self) -> Iterator[Fault]:
        """Check that the languages are English and French."""
        yield from super().find_faults()
        if Language.de in (self.source, self.target):
            yield Fault("target", self.target.name, "expected en and fr, the languages of this set")


@dataclass
class FilesConfig(ParallelTextConfig):
    """The user's own parallel text: two files per split, or one TSV per split (target left empty)."""

    family: str = "files"
    train_source: str = path_field("???")
    train_target: str | None = path_field(None)  # null: train_source is a TSV of source, tab, target
    val_source: str = path_field("???")
    val_target: str | None = path_field(None)
    test_source: str | None = path_field(None)  # null: the validation set stands in, and the record says so
    test_target: str | None = path_field(None)
    checksum: str | None = None  # checksum of the files, filled in automatically: other text gives another run_id


@dataclass
class SyntheticTranslationConfig(ParallelTextConfig):
    """Language pair generated from a small grammar, with known translations and alignments."""

    family: str = "synthetic_translation"
    tokenizer_type: TokenizerType = TokenizerType.word
    grammar_seed: int = seed_field(0)  # seed of the language; `seed` is the run's
    train_pairs: int = bounded_field(4000, minimum=1, maximum=_MAX_PAIRS)
    val_pairs: int = bounded_field(200, minimum=1, maximum=_MAX_PAIRS)
    test_pairs: int = bounded_field(200, minimum=1, maximum=_MAX_PAIRS)
    nouns: int = bounded_field(24, minimum=1, maximum=_MAX_WORDS)
    verbs: int = bounded_field(16, minimum=1, maximum=_MAX_WORDS)
    adjectives: int = bounded_field(12, minimum=1, maximum=_MAX_WORDS)
    clauses: int = bounded_field(2, minimum=1, maximum=_MAX_CLAUSES)  # most clauses a sentence can have
    test_clauses: int | None = bounded_field(
        None, minimum=1, maximum=_MAX_CLAUSES
    )  # most clauses of a test sentence; null: as in training
    reordering: bool = True  # verb-final clauses, adjectives behind nouns
    agreement: bool = True  # number and gender show on articles, adjectives and verbs
    drop_insert: bool = True  # words with no counterpart on the other side
