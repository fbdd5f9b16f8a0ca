"""The configs that training and decoding are measured with, composed and refused before torch is imported."""

from __future__ import annotations

from collections.abc import Sequence

from attnbench.benchmark.results import Settings
from attnbench.config import Config, ConfigError, Fault
from attnbench.config.root import FITS
from attnbench.config.task import ClassificationConfig
from attnbench.sweep.compose import Composer

TRAINED = ("tiny", "toy", "rnn", "bahdanau", "luong", "small")
DECODED = ("toy", "luong")
PRECISION = {"float32": "fp32", "bfloat16": "bf16_mixed", "float16": "fp16_mixed"}
_PAIRS, _PICTURES = "synthetic_translation", "vit_synthetic_garments"  # experiments on embedded data


def trained(settings: Settings) -> dict[str, Config]:
    """By model: training for as many updates as one repeat takes, on sentences or pictures as the model has it.

    Raises:
        ConfigError: with every fault of every model.
    """
    overrides = [
        f"trainer.max_steps={settings.warmup + settings.updates}",
        "trainer.max_epochs=null",
        f"trainer.precision={PRECISION[settings.dtype]}",
        f"trainer.accelerator={'gpu' if settings.device == 'cuda' else 'cpu'}",
        *([] if settings.data is None else [f"data={settings.data}"]),
    ]
    return _compose(settings.models or TRAINED, overrides, pictures=_PICTURES)


def decoded(settings: Settings) -> dict[str, Config]:
    """By model: translation of the embedded language pair; raises as `trained` does."""
    return _compose(settings.models or DECODED, [f"data.val_pairs={settings.sentences}"], pictures=_PAIRS)


def _compose(models: Sequence[str], overrides: Sequence[str], *, pictures: str) -> dict[str, Config]:
    """Each model in the experiment of its kind; `pictures`: that of the models that classify pictures."""
    composer = Composer()
    found: dict[str, Config] = {}
    wrong: list[Fault] = []
    for model in models:
        chosen, unreadable = composer.parse([f"model={model}"])
        classifies = composer.choose(chosen).bare.model.family in FITS[ClassificationConfig]["model"]
        experiment = pictures if classifies else _PAIRS
        more, illegible = composer.parse([f"experiment={experiment}", "logger=none", "callbacks=quiet", *overrides])
        config, faults = composer.compose([*chosen, *more])
        wrong += [*unreadable, *illegible, *faults]
        if config is not None:
            found[model] = config
    if wrong:
        raise ConfigError(list(dict.fromkeys(wrong)))
    return found
