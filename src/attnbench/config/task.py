"""Config of tasks: loss, scores and decoding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import bounded_field

# Beams are rows of a batch. Translations get worse from some tens on (Koehn and Knowles 2017), and a wider search only
# takes longer: one of a million beams says nothing for a minute.
MAX_BEAM_SIZE = 1000
# Wu et al. 2016 find 0.6 to 0.7 best, and 1 is the mean; from 5 on, 4,096 tokens to this power lose their digits.
_MAX_LENGTH_PENALTY = 5
# Limits the length of a translation by a decoder that never produces EOS.
_MAX_LENGTH_RATIO = 100
_MAX_EXTRA_TOKENS = 10_000


@dataclass
class TaskConfig:
    """Options of all tasks."""

    family: str = "none"  # names the dataclass in a record and a checkpoint
    label_smoothing: float = bounded_field(0.0, minimum=0, less_than=1)


class TranslationMetric(Enum):
    """Validation metric that selects the weights."""

    bleu = "bleu"
    chrf = "chrf"
    loss = "loss"


class ClassificationMetric(Enum):
    """Validation metric that selects the weights."""

    accuracy = "accuracy"
    loss = "loss"


class LengthPenalty(Enum):
    """Divisor of a hypothesis' log-probability for L tokens (EOS counted); alpha is length_penalty."""

    power = "power"  # L^alpha, as in fairseq and OpenNMT-py's "avg"
    wu = "wu"  # ((5 + L) / 6)^alpha: Wu et al. 2016, equation 14


@dataclass
class TranslationConfig(TaskConfig):
    """Sequence-to-sequence translation, scored by sacreBLEU and chrF."""

    family: str = "translation"
    monitor: TranslationMetric = TranslationMetric.bleu  # selects the weights and stops training (trainer.patience)
    beam_size: int = bounded_field(5, minimum=1, maximum=MAX_BEAM_SIZE)  # on the test set and in translate; 1: greedy
    val_beam_size: int = bounded_field(1, minimum=1, maximum=MAX_BEAM_SIZE)  # while training
    length_penalty: float = bounded_field(1.0, minimum=0, maximum=_MAX_LENGTH_PENALTY)  # alpha; 0: no penalty
    length_penalty_form: LengthPenalty = LengthPenalty.power
    min_length: int = bounded_field(
        1, minimum=0, maximum=_MAX_EXTRA_TOKENS
    )  # smallest number of tokens of a translation, without EOS
    # A translation has at most max_ratio x (source tokens) + max_extra tokens.
    max_ratio: float = bounded_field(1.5, greater_than=0, maximum=_MAX_LENGTH_RATIO)
    max_extra: int = bounded_field(20, minimum=1, maximum=_MAX_EXTRA_TOKENS)
    decode_tokens: int = bounded_field(8192, minimum=1)  # source tokens x beams decoded at once


@dataclass
class ClassificationConfig(TaskConfig):
    """Image classification, scored by accuracy and calibration."""

    family: str = "classification"
    monitor: ClassificationMetric = ClassificationMetric.accuracy  # selects the weights and stops training
    calibration_bins: int = bounded_field(15, minimum=1, maximum=10_000)  # of confidence: Guo et al. 2017, equation 3
    eval_batch_size: int = bounded_field(1000, minimum=1)  # images per batch
