"""Subwords and words: text comes back exactly, and the merges are those a naive learner finds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from attnbench.config.data import TokenizerType
from attnbench.data.tokenizer import BOS, EOS, PAD, SPECIAL_TOKENS, UNK, Tokenizer

LINES = [
    "low lower lowest",
    "new newer  newest ",
    " wide wider widest",
    "<pad> the <unk> is text , too .",
    "café naïve über \u202f ça",
    "a",
]


def train(segmenter: TokenizerType, lines: list[str] = LINES, vocab_size: int = 60, **more: int) -> Tokenizer:
    return Tokenizer.train(lines, segmenter, vocab_size=vocab_size, **more)


@pytest.mark.parametrize("segmenter", TokenizerType)
def test_text_comes_back_to_the_last_space(segmenter: TokenizerType) -> None:
    tokenizer = train(segmenter, vocab_size=200)
    assert [tokenizer.decode(ids) for ids in tokenizer.encode(LINES)] == LINES


@pytest.mark.parametrize("segmenter", TokenizerType)
def test_special_names_in_text_are_text(segmenter: TokenizerType) -> None:
    tokenizer = train(segmenter, vocab_size=200)
    assert tuple(tokenizer.get_labels(range(4))) == SPECIAL_TOKENS
    for ids in tokenizer.encode(LINES):
        assert not {PAD, BOS, EOS, UNK} & set(ids)


@pytest.mark.parametrize("segmenter", TokenizerType)
def test_what_pads_and_frames_spells_nothing(segmenter: TokenizerType) -> None:
    tokenizer = train(segmenter)
    (ids,) = tokenizer.encode(["low lower"])
    assert tokenizer.decode([BOS, *ids, EOS, PAD, PAD]) == "low lower"
    assert tokenizer.decode([]) == tokenizer.decode([EOS]) == ""


@pytest.mark.parametrize("segmenter", TokenizerType)
def test_json_keeps_everything(segmenter: TokenizerType) -> None:
    tokenizer = train(segmenter)
    again = Tokenizer.from_json(tokenizer.to_json())
    text = [*LINES, "unseen zzz words"]
    assert again.segmenter is segmenter
    assert again.size == tokenizer.size
    assert again.encode(text) == tokenizer.encode(text)
    assert again.to_json() == tokenizer.to_json()
    (ids,) = tokenizer.encode(["low zzz"])
    assert again.decode(ids) == tokenizer.decode(ids)
    assert again.get_labels(ids) == tokenizer.get_labels(ids)


@pytest.mark.parametrize("segmenter", TokenizerType)
def test_a_line_does_not_know_its_batch(segmenter: TokenizerType) -> None:
    tokenizer = train(segmenter)
    assert tokenizer.encode(LINES) == [tokenizer.encode([line])[0] for line in LINES]


def test_words_are_the_most_frequent_ones() -> None:
    lines = ["c b a", "b a", "a", "d"]
    assert train(TokenizerType.word, lines, vocab_size=6).get_labels(range(6)) == [*SPECIAL_TOKENS, "a", "b"]
    assert train(TokenizerType.word, lines, min_frequency=2).get_labels(range(6)) == [*SPECIAL_TOKENS, "a", "b"]
    assert train(TokenizerType.word, lines).size == 8


def test_an_unknown_word_stands_alone_and_an_unknown_letter_does_not() -> None:
    words, pieces = train(TokenizerType.word), train(TokenizerType.bpe)
    (ids,) = words.encode(["low zebra lowest"])
    assert ids[1] == UNK
    assert words.decode(ids) == "low <unk> lowest"
    (ids,) = pieces.encode(["loЖw"])
    assert ids.count(UNK) == 1
    assert pieces.decode(ids) == "lo<unk>w"


def naive_merges(lines: list[str], size: int) -> list[tuple[str, str]]:
    """Sennrich et al. 2016, figure 1, on words that begin with a mark; ties go to the older pieces."""
    words = Counter("▁" + word for line in lines for word in line.split(" "))
    split = {word: list(word) for word in words}
    pieces = [*SPECIAL_TOKENS, *sorted({letter for word in words for letter in word})]
    merges = []
    while len(pieces) < size:
        pairs = Counter[tuple[str, str]]()
        for word, count in words.items():
            for pair in zip(split[word], split[word][1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], pieces.index(p[0]), pieces.index(p[1])))
        merges.append(best)
        pieces.append("".join(best))
        split = {word: merged(parts, best) for word, parts in split.items()}
    return merges


def merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def test_merges_are_those_of_a_naive_learner() -> None:
    lines = [
        "low low low low low lower lower",
        "newest newest newest newest newest newest",
        "widest widest widest",
    ]
    tokenizer = train(TokenizerType.bpe, lines, vocab_size=32)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_json())["model"]["merges"]]
    assert merges == naive_merges(lines, 32)
    parts = list("▁lowest")
    for pair in merges:
        parts = merged(parts, pair)
    assert tokenizer.get_labels(tokenizer.encode(["lowest"])[0]) == parts


@pytest.mark.parametrize("segmenter", TokenizerType)
def test_another_process_learns_the_same(segmenter: TokenizerType) -> None:
    code = (
        "import json, sys; from attnbench.config.data import TokenizerType; "
        "from attnbench.data.tokenizer import Tokenizer; "
        f"made = Tokenizer.train(json.loads(sys.argv[1]), TokenizerType.{segmenter.name}, vocab_size=60); "
        "print(made.to_json())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, json.dumps(LINES)],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    assert other.stdout.strip() == train(segmenter).to_json()
