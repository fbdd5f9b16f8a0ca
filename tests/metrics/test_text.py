from __future__ import annotations

import math
import random
import warnings
from collections import Counter
from pathlib import Path

import pytest
import sacrebleu

from attnbench.metrics.text import (
    compute_bleu,
    compute_bleu_by_length,
    compute_bleu_k,
    compute_chrf,
    detokenize,
    tokenize,
)


def plain_bleu(hypotheses: list[str], references: list[str]) -> float:
    """Papineni et al. 2002, section 2, without smoothing; equal to sacreBLEU's where all orders match."""
    log_precision, said, meant = 0.0, 0, 0
    for n in range(1, 5):
        matched = total = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            grams = [
                Counter(zip(*(text.split()[i:] for i in range(n)), strict=False)) for text in (hypothesis, reference)
            ]
            matched += sum(min(count, grams[1][gram]) for gram, count in grams[0].items())
            total += sum(grams[0].values())
        log_precision += math.log(matched / total) / 4
    said = sum(len(text.split()) for text in hypotheses)
    meant = sum(len(text.split()) for text in references)
    return 100 * math.exp(min(0.0, 1 - meant / said) + log_precision)


def corrupted(lines: list[str], seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(word for word in line.split() if rng.random() > 0.15) for line in lines]


LINES = [f"the {a} dog sees {b} cats near the {c} house today ." for a in "xyz" for b in "uvw" for c in "rst"]


def test_bleu_agrees_with_the_formula() -> None:
    hypotheses = corrupted(LINES, 0)
    found = compute_bleu(hypotheses, LINES, tokenize="none")
    assert found.score == pytest.approx(plain_bleu(hypotheses, LINES), rel=1e-9)
    assert found.hypothesis_length == sum(len(line.split()) for line in hypotheses)
    assert found.reference_length == sum(len(line.split()) for line in LINES)
    assert found.brevity_penalty == pytest.approx(math.exp(1 - found.reference_length / found.hypothesis_length))
    assert len(found.precisions) == 4
    assert all(0 <= precision <= 100 for precision in found.precisions)


def test_signatures_say_how() -> None:
    upper = [line.upper() for line in LINES]
    assert compute_bleu(upper, LINES).score < 30
    assert "case:mixed" in compute_bleu(upper, LINES).signature
    folded = compute_bleu(upper, LINES, lowercase=True)
    assert folded.score == pytest.approx(100)
    assert "case:lc|eff:no|tok:13a|smooth:exp" in folded.signature
    assert "tok:none" in compute_bleu(upper, LINES, tokenize="none").signature
    assert "case:lc" in compute_chrf(upper, LINES, lowercase=True).signature


def test_chrf_knows_parts_of_words() -> None:
    assert compute_chrf(LINES, LINES).score == pytest.approx(100)
    near = [line.replace("cats", "cat") for line in LINES]
    far = [line.replace("cats", "zzzz") for line in LINES]
    assert 100 > compute_chrf(near, LINES).score > compute_chrf(far, LINES).score


def test_each_length_is_scored_alone_and_none_is_lost() -> None:
    words = [0, 1, 5, 6, 10, 11, 29, 30, 31, 99] + [14] * (len(LINES) - 10)
    hypotheses = corrupted(LINES, 1)
    found = compute_bleu_by_length(hypotheses, LINES, words)
    bins = {"1-5": (0, 5), "6-10": (6, 10), "11-15": (11, 15), "26-30": (26, 30), "31+": (31, 999)}
    assert list(found) == list(bins)
    for name, (low, high) in bins.items():
        chosen = [index for index, count in enumerate(words) if low <= count <= high]
        said, meant = ([lines[index] for index in chosen] for lines in (hypotheses, LINES))
        expected = sacrebleu.corpus_bleu(said, [meant], force=True).score
        assert found[name] == {"bleu": pytest.approx(expected, rel=1e-12), "sentences": len(chosen)}
    with pytest.raises(ValueError, match="zip"):
        compute_bleu_by_length(hypotheses, LINES, words[1:])


def test_many_tokenized_lines_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute_bleu(LINES * 10, LINES * 10, tokenize="none").score == pytest.approx(100)


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_each_hypothesis_needs_its_reference(hypotheses: list[str], references: list[str]) -> None:
    for metric in (compute_bleu, compute_chrf):
        with pytest.raises(ValueError, match="a reference for each hypothesis"):
            metric(hypotheses, references)


@pytest.mark.parametrize(
    ("hypothesis", "reference", "score"),
    [
        ("va !", "va !", 1.0),
        ("calme .", "il est calme .", math.exp(-1)),  # 0.368, as the book prints for too short a translation
        ("il est malade .", "il est calme .", (3 / 4) ** 0.5 * (1 / 3) ** 0.25),  # 0.658, as the book prints
        ("je suis .", "elle dort bien", 0.0),
        ("a a a a", "a b", (1 / 4) ** 0.5 * 0.0),
        ("va", "va", 1.0),  # no bigrams to ask for
        ("", "va !", 0.0),
    ],
)
def test_the_books_bleu(hypothesis: str, reference: str, score: float) -> None:
    assert compute_bleu_k(hypothesis, reference, 2) == pytest.approx(score)


def test_the_books_bleu_counts_longer_orders() -> None:
    assert compute_bleu_k("a b c d", "a b c e", 3) == pytest.approx((3 / 4) ** 0.5 * (2 / 3) ** 0.25 * (1 / 2) ** 0.125)


def test_moses_is_undone() -> None:
    line = "two dogs don &apos;t run &quot; fast &quot; , &amp; he &apos;s a well @-@ known cat ."
    assert detokenize([line], "en") == ["two dogs don't run \"fast\", & he's a well-known cat."]
    assert detokenize(["l&apos; homme va , « bien » ?"], "fr") == ["l'homme va, « bien » ?"]


def test_detokenized_multi30k_is_the_published_text(real_data: Path) -> None:
    stem = real_data / "multi30k" / "test_2016_flickr"
    tokenized = stem.with_name(stem.name + ".lc.norm.tok.de").read_text(encoding="utf-8").splitlines()
    published = stem.with_name(stem.name + ".de").read_text(encoding="utf-8").splitlines()
    found = compute_bleu(detokenize(tokenized, "de"), published, lowercase=True)
    assert found.score == pytest.approx(99.93, abs=0.005)
    assert compute_bleu(tokenized, tokenized, tokenize="none").reference_length == 12103


def test_tokenize_makes_what_published_tokenized_text_looks_like(real_data: Path) -> None:
    folder = real_data / "multi30k"
    raw = (folder / "val.en").read_text().splitlines()
    published = (folder / "val.lc.norm.tok.en").read_text().splitlines()
    found = [line.lower() for line in tokenize(raw, "en")]
    assert sum(a == b for a, b in zip(found, published, strict=True)) > 0.97 * len(raw)
