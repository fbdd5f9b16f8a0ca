"""Scores of translations: sacreBLEU, chrF and d2l.ai's BLEU; Moses tokenization and detokenization."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from attnbench.metrics.tokenization import DEFAULT, get_sacrebleu_name

_BIN_WIDTH, _LAST_BIN = 5, 30  # words: 1-5, 6-10, ..., 26-30, and more


@dataclass(frozen=True)
class TextScore:
    """Corpus score, 0 to 100, with the signature that says how it was computed."""

    score: float
    signature: str


@dataclass(frozen=True)
class BleuScore(TextScore):
    """Corpus BLEU with its brevity penalty, precisions and lengths."""

    brevity_penalty: float
    precisions: list[float]  # of 1- to 4-grams, 0 to 100
    hypothesis_length: int  # tokens
    reference_length: int


def compute_bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = DEFAULT, lowercase: bool = False
) -> BleuScore:
    """Compute corpus BLEU (Papineni et al. 2002) with sacreBLEU (Post 2018), one reference for each hypothesis.

    Args:
        hypotheses: translations.
        references: reference translations.
        tokenize: sacreBLEU's tokenizer; "none" for text that is tokenized already.
        lowercase: ignore case.

    Raises:
        ValueError: if there are no hypotheses, or another number of references.
    """
    _check_paired(hypotheses, references)
    # force avoids sacreBLEU's warning about tokenized text, which tokenize="none" is meant for.
    metric = BLEU(lowercase=lowercase, tokenize=get_sacrebleu_name(tokenize), force=tokenize == "none")
    found = metric.corpus_score(hypotheses, [references])
    return BleuScore(
        score=float(found.score),
        signature=str(metric.get_signature()),
        brevity_penalty=float(found.bp),
        precisions=[float(precision) for precision in found.precisions],
        hypothesis_length=int(found.sys_len),
        reference_length=int(found.ref_len),
    )


def compute_bleu_by_length(
    hypotheses: Sequence[str],
    references: Sequence[str],
    words: Sequence[int],
    *,
    tokenize: str = DEFAULT,
    lowercase: bool = False,
) -> dict[str, dict[str, float]]:
    """Compute corpus BLEU for each range of lengths, as in Figure 2 of Bahdanau et al. 2015.

    Args:
        hypotheses: translations.
        references: reference translations.
        words: length of each sentence; the paper uses the source length.
        tokenize: as in `compute_bleu`.
        lowercase: as in `compute_bleu`.

    Returns:
        `compute_bleu` and the number of `sentences` of each bin, `1-5` to `26-30` and `31+`; empty bins are left out.

    Raises:
        ValueError: as `compute_bleu`, or for another number of lengths.
    """
    _check_paired(hypotheses, references)
    members: dict[int, list[int]] = {}
    for index, (count, _) in enumerate(zip(words, hypotheses, strict=True)):
        members.setdefault(min(max(count - 1, 0), _LAST_BIN) // _BIN_WIDTH * _BIN_WIDTH + 1, []).append(index)
    found = {}
    for first, chosen in sorted(members.items()):
        outputs, expected = ([lines[index] for index in chosen] for lines in (hypotheses, references))
        name = f"{first}-{first + _BIN_WIDTH - 1}" if first < _LAST_BIN else f"{first}+"
        found[name] = {
            "bleu": compute_bleu(outputs, expected, tokenize=tokenize, lowercase=lowercase).score,
            "sentences": len(chosen),
        }
    return found


def compute_chrf(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> TextScore:
    """Compute corpus chrF2 (Popovic 2015) with sacreBLEU, one reference for each hypothesis.

    Args:
        hypotheses: translations.
        references: one reference per translation.
        lowercase: ignore case.

    Raises:
        ValueError: as `compute_bleu`.
    """
    _check_paired(hypotheses, references)
    metric = CHRF(lowercase=lowercase)
    found = metric.corpus_score(hypotheses, [references])
    return TextScore(score=float(found.score), signature=str(metric.get_signature()))


def compute_bleu_k(hypothesis: str, reference: str, k: int) -> float:
    """Compute BLEU of one sentence as d2l.ai defines it (chapter 10.7.6), 0 to 1.

    exp(min(0, 1 - len_reference / len_hypothesis)) x prod_{n=1}^k p_n^(1/2^n), p_n the clipped n-gram precision. As
    in the book's code, orders longer than the hypothesis are left out; an empty hypothesis scores 0.

    Args:
        hypothesis: translation, split at spaces.
        reference: reference, split at spaces.
        k: largest n-gram order.
    """
    outputs, expected = hypothesis.split(), reference.split()
    if not outputs:
        return 0.0
    score = math.exp(min(0.0, 1 - len(expected) / len(outputs)))
    for n in range(1, min(k, len(outputs)) + 1):
        found, wanted = _count_ngrams(outputs, n), _count_ngrams(expected, n)
        score *= ((found & wanted).total() / found.total()) ** 0.5**n
    return score


def detokenize(lines: Sequence[str], language: str) -> list[str]:
    """Turn Moses-tokenized text into ordinary text, including `&apos;` and `@-@`.

    Args:
        lines: tokenized text.
        language: ISO 639-1 code.
    """
    from sacremoses import MosesDetokenizer  # compiles its hundreds of expressions when it is imported: half a second

    detokenizer = MosesDetokenizer(lang=language)
    return [detokenizer.detokenize(line.split()) for line in lines]


def tokenize(lines: Sequence[str], language: str) -> list[str]:
    """Normalize punctuation and tokenize with Moses, as in published tokenized sets.

    Args:
        lines: ordinary text.
        language: ISO 639-1 code.
    """
    from sacremoses import MosesPunctNormalizer, MosesTokenizer

    normalizer, tokenizer = MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)
    return [tokenizer.tokenize(normalizer.normalize(line), return_str=True) for line in lines]


def _count_ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _check_paired(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(f"expected a reference for each hypothesis: {len(references)} for {len(hypotheses)}")
