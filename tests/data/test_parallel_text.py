"""Sets of sentence pairs: the user's own, published ones, and d2l.ai's cut against the book's own steps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from attnbench.config.data import (
    FilesConfig,
    Language,
    Multi30kConfig,
    ParallelTextConfig,
    SyntheticTranslationConfig,
    TatoebaConfig,
    TextVariant,
    Wmt14Config,
)
from attnbench.config.tracking import PathsConfig
from attnbench.data.errors import DataError
from attnbench.data.overlap import count_overlap
from attnbench.data.pairs import DETOKENIZED, TOKENIZED, ParallelText, Preprocessing
from attnbench.data.parallel_text import load_parallel_text


def write(path: Path, *lines: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return str(path)


def load_in(folder: Path, config: ParallelTextConfig) -> ParallelText:
    return load_parallel_text(config, PathsConfig(data=str(folder)))


def test_own_files(tmp_path: Path) -> None:
    config = FilesConfig(
        train_source=write(tmp_path / "a", "one  two ", "three"),
        train_target=write(tmp_path / "b", "eins\u00a0zwei", "drei"),
        val_source=write(tmp_path / "c.tsv", "four\tvier  !"),
        test_source=write(tmp_path / "d", "five"),
        test_target=write(tmp_path / "e", "fünf"),
    )
    text = load_in(tmp_path, config)
    assert (text.train.source, text.train.target) == (["one two", "three"], ["eins zwei", "drei"])
    assert (text.val.source, text.val.target) == (["four"], ["vier !"])
    assert text.val.references == {DETOKENIZED: ["vier  !"]}  # scored as it stands in the file
    assert (text.test.source, text.test.target) == (["five"], ["fünf"])
    assert (text.is_tokenized, text.notes) == (False, [])
    assert len(text.checksums) == 5
    assert text.train.describe_location(1, 1) == f"{config.train_target}:2"


def test_without_a_test_set_the_validation_set_stands_in_and_is_named(tmp_path: Path) -> None:
    pairs = write(tmp_path / "a.tsv", "one\teins")
    text = load_in(tmp_path, FilesConfig(train_source=pairs, val_source=pairs))
    assert text.test.source == ["one"]
    assert text.notes == ["test: the validation pairs"]


def test_own_files_of_unequal_length(tmp_path: Path) -> None:
    config = FilesConfig(train_source=write(tmp_path / "a", "one", "two"), train_target=write(tmp_path / "b", "eins"))
    with pytest.raises(DataError, match=r"a:2: has no counterpart"):
        load_in(tmp_path, config)


@pytest.mark.parametrize("form", TextVariant)
def test_multi30k(tmp_path: Path, form: TextVariant) -> None:
    for split, noun in (("train", "Haus"), ("val", "Hund"), ("test_2017_flickr", "Kind")):
        folder = tmp_path / "multi30k"
        write(folder / f"{split}.en", "A  Thing.")
        write(folder / f"{split}.de", f"Ein  {noun}.")
        write(folder / f"{split}.lc.norm.tok.en", "a thing .")
        write(folder / f"{split}.lc.norm.tok.de", f"ein {noun.lower()} .")
    text = load_in(tmp_path, Multi30kConfig(variant=form, test_set="test_2017_flickr"))
    raw = form is TextVariant.raw
    assert text.train.source == ["A Thing." if raw else "a thing ."]
    assert text.test.target == ["Ein Kind." if raw else "ein kind ."]
    both = {TOKENIZED: ["ein hund ."], DETOKENIZED: ["Ein  Hund."]}
    assert text.val.references == ({DETOKENIZED: both[DETOKENIZED]} if raw else both)
    assert text.is_tokenized is not raw
    assert (text.source_language, text.target_language) == (Language.en, Language.de)
    assert len(text.checksums) == (6 if raw else 9)
    assert "multi30k/train.de: not the published file" in text.notes


def test_wmt14(tmp_path: Path) -> None:
    for stem in ("train", "newstest2013", "newstest2014"):
        write(tmp_path / "wmt14" / f"{stem}.en", f"{stem} source")
        write(tmp_path / "wmt14" / f"{stem}.de", f"{stem} target")
    text = load_in(tmp_path, Wmt14Config())
    assert [s.source[0] for s in (text.train, text.val, text.test)] == [
        "train source",
        "newstest2013 source",
        "newstest2014 source",
    ]
    assert text.test.references == {TOKENIZED: ["newstest2014 target"]}
    with pytest.raises(DataError, match=r"newstest2013\.fr: no such file; expected newstest2013\.fr of https"):
        load_in(tmp_path, Wmt14Config(target=Language.fr))


def book(text: str, count: int) -> tuple[list[list[str]], list[list[str]]]:
    """Chapter 10.5's steps, letter by letter over the whole text: the words of the first pairs."""
    text = text.replace("\u202f", " ").replace("\xa0", " ").lower()
    spaced = "".join(" " + c if i and c in ",.!?" and text[i - 1] != " " else c for i, c in enumerate(text))
    rows = [line.split("\t") for line in spaced.split("\n")[:count]]
    source, target = ([[t for t in row[side].split(" ") if t] for row in rows] for side in (0, 1))
    return source, target


@pytest.mark.parametrize("line", ["Go.", "Wow!", "I'm  home , ok?!", "\u202fÇa alors\u202f!", "!a\u2009b\xa0."])
def test_preparation_is_the_books(line: str) -> None:
    assert Preprocessing.d2l(line).split(" ") == book(f"{line}\t{line}", 1)[0][0]


def test_tatoeba_is_cut_as_in_the_book(tmp_path: Path) -> None:
    rows = [f"Word{i}, yes!\tMot{i}\u202f!\tCC-BY {i}" for i in range(8)]
    write(tmp_path / "fra-eng" / "fra.txt", *rows)
    text = load_in(tmp_path, TatoebaConfig(train_pairs=4, val_pairs=2))
    assert text.train.source == [f"word{i} , yes !" for i in range(4)]
    assert text.val.target == text.test.target == ["mot4 !", "mot5 !"]
    assert text.val.references == {
        TOKENIZED: ["mot4 !", "mot5 !"],
        DETOKENIZED: ["Mot4\u202f!", "Mot5\u202f!"],
    }
    assert text.vocabulary_splits == (text.train, text.val)
    assert text.val.describe_location(0, 0).endswith("fra.txt:5")
    assert text.notes[0] == "test: the validation pairs"
    back = load_in(tmp_path, TatoebaConfig(train_pairs=4, val_pairs=2, source=Language.fr, target=Language.en))
    assert (back.train.source, back.train.target) == (text.train.target, text.train.source)
    with pytest.raises(DataError, match=r"fra\.txt:8: the last pair; expected at least 9 pairs"):
        load_in(tmp_path, TatoebaConfig(train_pairs=7, val_pairs=2))


def test_tatoeba_whole_keeps_a_sentence_in_one_split(tmp_path: Path) -> None:
    rows = [f"Word {i // 3}.\tMot {i}." for i in range(60)]
    write(tmp_path / "fra-eng" / "fra.txt", *rows)
    text = load_in(tmp_path, TatoebaConfig(train_pairs=None, val_pairs=9))
    splits = (text.train, text.val, text.test)
    assert [len(split) for split in splits] == [42, 9, 9]
    assert sorted(line for split in splits for line in split.lines) == list(range(1, 61))
    sides = [set(split.source) for split in splits]
    assert sum(map(len, sides)) == len(set().union(*sides))
    assert text.notes == []
    assert load_in(tmp_path, TatoebaConfig(train_pairs=None, val_pairs=9)) == text


@pytest.mark.parametrize("source", [Language.en, Language.fr])
def test_tatoeba_whole_shares_no_sentence_of_either_side(tmp_path: Path, source: Language) -> None:
    """Each target has two sources and each second source two targets, so that pairs are linked through others."""
    rows = [f"Word {i}.\tMot {i // 2}." for i in range(60)] + [f"WORD {i}.\tMot x{i // 4}." for i in range(0, 60, 2)]
    write(tmp_path / "fra-eng" / "fra.txt", *rows)
    target = Language.fr if source is Language.en else Language.en
    text = load_in(tmp_path, TatoebaConfig(train_pairs=None, val_pairs=9, source=source, target=target))
    for side in ("source", "target"):
        sides = [set(getattr(split, side)) for split in (text.train, text.val, text.test)]
        assert sum(map(len, sides)) == len(set().union(*sides))
    assert 6 <= len(text.test) <= 9
    assert len(text.train) + len(text.val) + len(text.test) == 90
    other = load_in(tmp_path, TatoebaConfig(train_pairs=None, val_pairs=9))
    assert text.test.lines == other.test.lines  # the same pairs in both directions


def test_real_tatoeba_whole_shares_no_sentence_of_either_side(real_data: Path) -> None:
    for source, target in ((Language.en, Language.fr), (Language.fr, Language.en)):
        text = load_in(real_data, TatoebaConfig(train_pairs=None, val_pairs=1000, source=source, target=target))
        train = {"source": text.train.source, "target": text.train.target}
        for split in (text.val, text.test):
            found = count_overlap(train, {"source": split.source, "target": split.target})
            assert found == {"examples": 1000, "source": 0, "target": 0}


def test_synthetic(tmp_path: Path) -> None:
    text = load_in(tmp_path, SyntheticTranslationConfig(train_pairs=30, val_pairs=5, test_pairs=6))
    assert [len(s) for s in (text.train, text.val, text.test)] == [30, 5, 6]
    assert text.test.alignment is not None
    assert text.test.references == {DETOKENIZED: text.test.target}
    other = SyntheticTranslationConfig(train_pairs=30, val_pairs=5, test_pairs=6, grammar_seed=1)
    assert load_in(tmp_path, other).checksums != text.checksums


def test_real_multi30k(real_data: Path) -> None:
    for source, target in (("en", "de"), ("fr", "en")):
        text = load_in(real_data, Multi30kConfig(source=Language[source], target=Language[target]))
        assert [len(s) for s in (text.train, text.val, text.test)] == [29_000, 1_014, 1_000]
        assert text.notes == []
        published = (real_data / f"multi30k/test_2016_flickr.{target}").read_text("utf-8").split("\n")
        assert text.test.references[DETOKENIZED] == published[:-1]


def test_real_tatoeba_is_the_books(real_data: Path) -> None:
    text = load_in(real_data, TatoebaConfig())
    source, target = book((real_data / "fra-eng/fra.txt").read_text("utf-8"), 640)
    assert [line.split(" ") for line in text.train.source + text.val.source] == source
    assert [line.split(" ") for line in text.train.target + text.val.target] == target
    assert Counter(w for s in text.vocabulary_splits for line in s.target for w in line.split(" ")) == Counter(
        w for words in target for w in words
    )
