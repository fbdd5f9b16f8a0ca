"""Tasks: what is learned, how it is scored and decoded."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import number


@dataclass
class TaskConfig:
    """What every task has."""

    family: str = "none"  # names the dataclass in a record and a checkpoint
    label_smoothing: float = number(0.0, at_least=0, below=1)


class TranslationMetric(Enum):
    """A score of the validation set that can choose the weights."""

    bleu = "bleu"
    chrf = "chrf"
    loss = "loss"


class ClassificationMetric(Enum):
    """A score of the validation set that can choose the weights."""

    accuracy = "accuracy"
    loss = "loss"


class LengthPenalty(Enum):
    """What a hypothesis of L tokens (EOS counted) has its log-probability divided by; alpha is length_penalty."""

    power = "power"  # L^alpha, as in fairseq and OpenNMT-py's "avg"
    wu = "wu"  # ((5 + L) / 6)^alpha: Wu et al. 2016, equation 14


@dataclass
class TranslationConfig(TaskConfig):
    """Sequence-to-sequence translation, scored by sacreBLEU and chrF."""

    family: str = "translation"
    monitor: TranslationMetric = TranslationMetric.bleu  # chooses the weights, and stops training (trainer.patience)
    beam_size: int = number(5, at_least=1)  # on the test set and in translate; 1: greedy
    val_beam_size: int = number(1, at_least=1)  # while training
    length_penalty: float = number(1.0, at_least=0)  # alpha; 0: no penalty
    length_penalty_form: LengthPenalty = LengthPenalty.power
    min_length: int = number(1, at_least=0)  # tokens of a translation at least, EOS not counted
    max_ratio: float = number(1.5, above=0)  # a translation has at most max_ratio x source + max_extra tokens
    max_extra: int = number(20, at_least=1)
    decode_tokens: int = number(8192, at_least=1)  # source tokens x beams decoded at once


@dataclass
class ClassificationConfig(TaskConfig):
    """Classification of pictures, scored by accuracy and calibration."""

    family: str = "classification"
    monitor: ClassificationMetric = ClassificationMetric.accuracy  # chooses the weights, and stops training
    calibration_bins: int = number(15, at_least=1)  # of confidence: Guo et al. 2017, equation 3
    eval_batch: int = number(1000, at_least=1)  # pictures classified at once
