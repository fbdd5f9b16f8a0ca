"""Config of translation scores."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# sacreBLEU's names, of which some cannot be written as members of a class.
BleuTokenizer = Enum(
    "BleuTokenizer",
    {
        "auto": "auto",
        "13a": "13a",
        "intl": "intl",
        "zh": "zh",
        "ja-mecab": "ja-mecab",
        "ko-mecab": "ko-mecab",
        "char": "char",
        "flores200": "flores200",
        "spm": "spm",
        "none": "none",
    },
)


@dataclass
class MetricsConfig:
    """Options of translation scores."""

    # Splits text into the words that BLEU counts; auto: by the target language.
    tokenize: BleuTokenizer = BleuTokenizer["auto"]
