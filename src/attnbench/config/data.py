"""Data sets: one dataclass a source; everything about a pair of texts that changes a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.fields import Fault, bounded_field, path_field, seed_field

# Sentences and vocabularies are held in memory, and positions of a sentence squared.
_MAX_PAIRS = 10**9
_MAX_TOKENS = 2**20
_MAX_VOCAB_SIZE = 10**6
# Words of the synthetic language are drawn until so many differ.
_MAX_WORDS = 10_000
_MAX_CLAUSES = 100


class TokenizerType(Enum):
    """How text becomes tokens (data/tokenizer.py)."""

    bpe = "bpe"  # byte-pair encoding learned on the training text: Sennrich et al. 2016
    word = "word"  # white space


class Language(Enum):
    """Languages of Multi30k, Tatoeba and WMT 2014."""

    en = "en"
    de = "de"
    fr = "fr"


class TextVariant(Enum):
    """Which published form of Multi30k."""

    raw = "raw"
    tokenized = "tokenized"  # .lc.norm.tok.: lower-cased, normalized, Moses-tokenized


class OnTooLong(Enum):
    """What to do with a training pair over max_len."""

    error = "error"
    drop = "drop"
    truncate = "truncate"


@dataclass
class DataConfig:
    """What every data set has."""

    family: str = "none"  # names the dataclass in a record and a checkpoint

    @property
    def max_update_size(self) -> int:
        """What an update holds at most, in the batch's unit; every set says so itself."""
        raise NotImplementedError


@dataclass
class ParallelTextConfig(DataConfig):
    """What every set of sentence pairs has."""

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
        """What an update holds at most, in the batch's unit."""
        return self.batch_tokens

    def find_faults(self) -> Iterator[Fault]:
        """A batch must hold its longest sentence."""
        if self.batch_tokens < self.max_len:
            yield Fault("batch_tokens", f"{self.batch_tokens}", f"expected at least data.max_len={self.max_len}")


@dataclass
class LanguagePairConfig(ParallelTextConfig):
    """A set published in several languages."""

    source: Language = Language.en
    target: Language = Language.de

    def find_faults(self) -> Iterator[Fault]:
        """A language is not translated into itself."""
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
        """Each test set is tested once."""
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
        """Tatoeba's export here has English and French."""
        yield from super().find_faults()
        if Language.de in (self.source, self.target):
            yield Fault("target", self.target.name, "expected en and fr, the languages of this set")


@dataclass
class FilesConfig(ParallelTextConfig):
    """The user's own parallel text: two files a split, or one TSV a split (target left empty)."""

    family: str = "files"
    train_source: str = path_field("???")
    train_target: str | None = path_field(None)  # null: train_source is a TSV of source, tab, target
    val_source: str = path_field("???")
    val_target: str | None = path_field(None)
    test_source: str | None = path_field(None)  # null: the validation set stands in, and the record says so
    test_target: str | None = path_field(None)
    checksum: str | None = None  # of the files, a checksum: filled in, so that a run on other text is another run


@dataclass
class SyntheticTranslationConfig(ParallelTextConfig):
    """A language pair made from a small grammar, with known translation and alignment."""

    family: str = "synthetic_translation"
    tokenizer_type: TokenizerType = TokenizerType.word
    grammar_seed: int = seed_field(0)  # the language; `seed` is the run
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
