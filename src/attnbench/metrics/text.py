"""Translations in, scores out: sacreBLEU, chrF, d2l.ai's BLEU, and Moses detokenisation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from attnbench.metrics.tokenization import DEFAULT, sacrebleu_name

_BIN, _LAST_BIN = 5, 30  # words: 1-5, 6-10, ..., 26-30, and all that is longer


@dataclass(frozen=True)
class TextScore:
    """A corpus score, 0 to 100, and the signature that says how it was computed."""

    score: float
    signature: str


@dataclass(frozen=True)
class BleuScore(TextScore):
    """A corpus BLEU and what it is made of."""

    brevity_penalty: float
    precisions: list[float]  # of 1- to 4-grams, 0 to 100
    hypothesis_length: int  # tokens
    reference_length: int


def bleu(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: str = DEFAULT, lowercase: bool = False
) -> BleuScore:
    """Corpus BLEU (Papineni et al. 2002) by sacreBLEU (Post 2018), one reference a hypothesis.

    `tokenize="none"` scores text that is tokenised already; anything else expects ordinary text.

    Raises:
        ValueError: not as many references as hypotheses, or none at all.
    """
    _paired(hypotheses, references)
    # force: a hypothesis that ends in " ." is what tokenize="none" is for; sacreBLEU would warn of it.
    metric = BLEU(lowercase=lowercase, tokenize=sacrebleu_name(tokenize), force=tokenize == "none")
    found = metric.corpus_score(hypotheses, [references])
    return BleuScore(
        score=float(found.score),
        signature=str(metric.get_signature()),
        brevity_penalty=float(found.bp),
        precisions=[float(precision) for precision in found.precisions],
        hypothesis_length=int(found.sys_len),
        reference_length=int(found.ref_len),
    )


def bleu_by_length(
    hypotheses: Sequence[str],
    references: Sequence[str],
    words: Sequence[int],
    *,
    tokenize: str = DEFAULT,
    lowercase: bool = False,
) -> dict[str, dict[str, float]]:
    """`bleu` of the sentences of each length alone, as in Figure 2 of Bahdanau et al. 2015.

    `words` is a length for each sentence, that of its source in the paper. By bin, shortest first, `1-5` to `26-30` and
    `31+`: its `bleu`, and how many `sentences` it has. A bin that no sentence falls into is left out.

    Raises:
        ValueError: as `bleu`, or not as many lengths as sentences.
    """
    _paired(hypotheses, references)
    members: dict[int, list[int]] = {}
    for index, (count, _) in enumerate(zip(words, hypotheses, strict=True)):
        members.setdefault(min(max(count - 1, 0), _LAST_BIN) // _BIN * _BIN + 1, []).append(index)
    found = {}
    for first, chosen in sorted(members.items()):
        said, meant = ([lines[index] for index in chosen] for lines in (hypotheses, references))
        name = f"{first}-{first + _BIN - 1}" if first < _LAST_BIN else f"{first}+"
        found[name] = {
            "bleu": bleu(said, meant, tokenize=tokenize, lowercase=lowercase).score,
            "sentences": len(chosen),
        }
    return found


def chrf(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> TextScore:
    """Corpus chrF2 (Popovic 2015) by sacreBLEU, one reference a hypothesis; raises as `bleu` does."""
    _paired(hypotheses, references)
    metric = CHRF(lowercase=lowercase)
    found = metric.corpus_score(hypotheses, [references])
    return TextScore(score=float(found.score), signature=str(metric.get_signature()))


def bleu_k(hypothesis: str, reference: str, k: int) -> float:
    """BLEU of one sentence as d2l.ai defines it (chapter 10.7.6), 0 to 1.

    exp(min(0, 1 - len_reference / len_hypothesis)) x prod_{n=1}^k p_n^(1/2^n), p_n the clipped n-gram
    precision. As in the book's code, orders longer than the hypothesis are left out; an empty one scores 0.
    """
    said, meant = hypothesis.split(), reference.split()
    if not said:
        return 0.0
    score = math.exp(min(0.0, 1 - len(meant) / len(said)))
    for n in range(1, min(k, len(said)) + 1):
        found, wanted = _ngrams(said, n), _ngrams(meant, n)
        score *= ((found & wanted).total() / found.total()) ** 0.5**n
    return score


def detokenise(lines: Sequence[str], language: str) -> list[str]:
    """Moses-tokenised text as ordinary text again; `&apos;` and `@-@` are undone too."""
    from sacremoses import MosesDetokenizer  # compiles its hundreds of expressions when it is imported: half a second

    detokeniser = MosesDetokenizer(lang=language)
    return [detokeniser.detokenize(line.split()) for line in lines]


def tokenise(lines: Sequence[str], language: str) -> list[str]:
    """Ordinary text with punctuation normalised and Moses-tokenised, as published tokenised sets are."""
    from sacremoses import MosesPunctNormalizer, MosesTokenizer

    normaliser, tokeniser = MosesPunctNormalizer(lang=language), MosesTokenizer(lang=language)
    return [tokeniser.tokenize(normaliser.normalize(line), return_str=True) for line in lines]


def _ngrams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _paired(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(f"expected a reference for each hypothesis: {len(references)} for {len(hypotheses)}")
