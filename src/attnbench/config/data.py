"""Data sets: one dataclass a source; everything about a pair of texts that changes a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.fields import Fault, number, path, seed

# Sentences and vocabularies are held in memory, and positions of a sentence squared.
_MOST_PAIRS = 10**9
_MOST_TOKENS = 2**20
_MOST_PIECES = 10**6
# Words of the synthetic language are drawn until so many differ.
_MOST_WORDS = 10_000
_MOST_CLAUSES = 100


class Segmenter(Enum):
    """How text becomes tokens (data/tokenizer.py)."""

    bpe = "bpe"  # byte-pair encoding learned on the training text: Sennrich et al. 2016
    word = "word"  # white space


class Language(Enum):
    """Languages of Multi30k, Tatoeba and WMT 2014."""

    en = "en"
    de = "de"
    fr = "fr"


class TextForm(Enum):
    """Which published form of Multi30k."""

    raw = "raw"
    tokenised = "tokenised"  # .lc.norm.tok.: lower-cased, normalised, Moses-tokenised


class OverLong(Enum):
    """What to do with a training pair over max_len."""

    refuse = "refuse"
    drop = "drop"
    truncate = "truncate"


@dataclass
class DataConfig:
    """What every data set has."""

    family: str = "none"  # names the dataclass in a record and a checkpoint

    @property
    def update_size(self) -> int:
        """What an update holds at most, in the batch's unit; every set says so itself."""
        raise NotImplementedError


@dataclass
class ParallelTextConfig(DataConfig):
    """What every set of sentence pairs has."""

    segmenter: Segmenter = Segmenter.bpe
    vocab_size: int = number(
        10000, at_least=8, at_most=_MOST_PIECES
    )  # bpe: pieces, special tokens included; word: most frequent
    min_frequency: int = number(1, at_least=1)  # rarer words become <unk>
    joint_vocabulary: bool = True  # one vocabulary for both languages
    batch_tokens: int = number(4096, at_least=1)  # an update: sentences x longest side, padding counted
    max_len: int = number(256, at_least=2, at_most=_MOST_TOKENS)  # tokens in a sentence, end of sentence included
    over_long: OverLong = OverLong.refuse
    reverse_source: bool = False  # Sutskever et al. 2014

    @property
    def update_size(self) -> int:
        """What an update holds at most, in the batch's unit."""
        return self.batch_tokens

    def faults(self) -> Iterator[Fault]:
        """A batch must hold its longest sentence."""
        if self.batch_tokens < self.max_len:
            yield Fault("batch_tokens", f"{self.batch_tokens}", f"expected at least data.max_len={self.max_len}")


@dataclass
class LanguagePairConfig(ParallelTextConfig):
    """A set published in several languages."""

    source: Language = Language.en
    target: Language = Language.de

    def faults(self) -> Iterator[Fault]:
        """A language is not translated into itself."""
        yield from super().faults()
        if self.source is self.target:
            yield Fault("target", self.target.name, f"expected a language other than data.source={self.source.name}")


@dataclass
class Multi30kConfig(LanguagePairConfig):
    """Multi30k task 1 (Elliott et al. 2016, 2017): 29,000 captions, val, test_2016_flickr."""

    family: str = "multi30k"
    form: TextForm = TextForm.tokenised
    test_set: str = "test_2016_flickr"
    more_test_sets: list[str] = field(default_factory=list)  # tested too, and recorded under their own names

    def faults(self) -> Iterator[Fault]:
        """Each test set is tested once."""
        yield from super().faults()
        for name in self.more_test_sets:
            if [self.test_set, *self.more_test_sets].count(name) > 1:
                yield Fault("more_test_sets", f"{self.more_test_sets}", f"expected {name} once, data.test_set included")
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
    segmenter: Segmenter = Segmenter.word
    train_pairs: int | None = number(512, at_least=1, at_most=_MOST_PAIRS)  # null: all that validation and test leave
    val_pairs: int = number(128, at_least=1, at_most=_MOST_PAIRS)

    def faults(self) -> Iterator[Fault]:
        """Tatoeba's export here has English and French."""
        yield from super().faults()
        if Language.de in (self.source, self.target):
            yield Fault("target", self.target.name, "expected en and fr, the languages of this set")


@dataclass
class FilesConfig(ParallelTextConfig):
    """The user's own parallel text: two files a split, or one TSV a split (target left empty)."""

    family: str = "files"
    train_source: str = path("???")
    train_target: str | None = path(None)  # null: train_source is a TSV of source, tab, target
    val_source: str = path("???")
    val_target: str | None = path(None)
    test_source: str | None = path(None)  # null: the validation set stands in, and the record says so
    test_target: str | None = path(None)
    content: str | None = None  # of the files, a checksum: filled in, so that a run on other text is another run


@dataclass
class SyntheticTranslationConfig(ParallelTextConfig):
    """A language pair made from a small grammar, with known translation and alignment."""

    family: str = "synthetic_translation"
    segmenter: Segmenter = Segmenter.word
    grammar_seed: int = seed(0)  # the language; `seed` is the run
    train_pairs: int = number(4000, at_least=1, at_most=_MOST_PAIRS)
    val_pairs: int = number(200, at_least=1, at_most=_MOST_PAIRS)
    test_pairs: int = number(200, at_least=1, at_most=_MOST_PAIRS)
    nouns: int = number(24, at_least=1, at_most=_MOST_WORDS)
    verbs: int = number(16, at_least=1, at_most=_MOST_WORDS)
    adjectives: int = number(12, at_least=1, at_most=_MOST_WORDS)
    clauses: int = number(2, at_least=1, at_most=_MOST_CLAUSES)  # most clauses a sentence can have
    test_clauses: int | None = number(
        None, at_least=1, at_most=_MOST_CLAUSES
    )  # most clauses of a test sentence; null: as in training
    reordering: bool = True  # verb-final clauses, adjectives behind nouns
    agreement: bool = True  # number and gender show on articles, adjectives and verbs
    drop_insert: bool = True  # words with no counterpart on the other side
