"""The configs that models are measured with, composed and refused before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnbench.benchmarks.results import Settings
from attnbench.config import Config, ConfigError, Fault
from attnbench.config.root import COMPATIBLE_FAMILIES
from attnbench.config.task import ClassificationConfig
from attnbench.metrics.throughput import WARMUP_STEPS
from attnbench.sweeps.compose import Composer

TRAINED = ("tiny", "toy", "rnn", "bahdanau", "luong", "small")
DECODED = ("toy", "luong")
SHARED = ("tiny",)  # by devices
BEAMS = {"greedy": 1, "beam 5": 5}  # by group of peers_decoding
PRECISION = {"float32": "fp32", "bfloat16": "bf16_mixed", "float16": "fp16_mixed"}
_PAIRS, _PICTURES = "synthetic_translation", "vit_synthetic_garments"  # experiments on embedded data
_MULTI30K = "experiment=transformer_multi30k"


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
        *_data(settings),
    ]
    return _compose(settings.models or TRAINED, overrides, pictures=_PICTURES)


def decoded(settings: Settings) -> dict[str, Config]:
    """By model: translation of the embedded language pair; raises as `trained` does."""
    return _compose(settings.models or DECODED, [f"data.val_pairs={settings.sentences}"], pictures=_PAIRS)


def commands(settings: Settings) -> dict[str, list[str]]:
    """By model: what `python -m attnbench.train` is told for one repeat, without devices; raises as `trained` does."""
    updates = WARMUP_STEPS + settings.updates
    overrides = [
        f"trainer.max_steps={updates}",
        "trainer.max_epochs=null",
        "trainer.final_weights=last",
        f"trainer.precision={PRECISION[settings.dtype]}",
        f"logger.log_every_n_steps={settings.updates}",
        f"debug.limit_batches={updates}",  # of what is tested: it is not measured
        *_data(settings),
    ]
    composer = Composer()
    given = _given(composer, settings.models or SHARED, overrides, pictures=_PICTURES)
    _checked(composer, given)
    return given


def contested(suite: str, settings: Settings) -> dict[str, Config]:
    """By group: what contenders of one of results.CONTESTS are told; raises as `trained` does."""
    given = {
        "peers_training": {"tiny": [_MULTI30K, *_data(settings)]},
        "peers_decoding": {
            group: [_MULTI30K, *_data(settings), f"task.beam_size={size}"] for group, size in BEAMS.items()
        },
        "peers_pictures": {"small": ["experiment=vit_fashion_mnist"], "vit_d2l": ["experiment=vit_d2l"]},
        "peers_recurrent": {f"{length} tokens": ["model=bahdanau_d2l", "attention=additive"] for length in (9, 64)},
        "overhead": {"tiny": [_MULTI30K, *_data(settings)]},
    }[suite]
    endless = ["trainer.accelerator=cpu", "trainer.max_epochs=null", "trainer.max_steps=1000000"]
    quiet = ["callbacks.progress_bar=false"]
    return _checked(Composer(), {group: [*overrides, *endless, *quiet] for group, overrides in given.items()})


def _data(settings: Settings) -> list[str]:
    return [] if settings.data is None else [f"data={settings.data}"]


def _compose(models: Sequence[str], overrides: Sequence[str], *, pictures: str) -> dict[str, Config]:
    """Each model in the experiment of its kind; `pictures`: that of the models that classify pictures."""
    composer = Composer()
    return _checked(composer, _given(composer, models, overrides, pictures=pictures))


def _given(
    composer: Composer, models: Sequence[str], overrides: Sequence[str], *, pictures: str
) -> dict[str, list[str]]:
    given = {}
    for model in models:
        chosen, _ = composer.parse([f"model={model}"])
        classifies = (
            composer.compose_choices(chosen).run_config.model.family
            in COMPATIBLE_FAMILIES[ClassificationConfig]["model"]
        )
        experiment = pictures if classifies else _PAIRS
        given[model] = [
            f"model={model}", f"experiment={experiment}", "logger=none", "callbacks=quiet", *overrides,
        ]  # fmt: skip
    return given


def _checked(composer: Composer, given: Mapping[str, Sequence[str]]) -> dict[str, Config]:
    """The config that each list of overrides gives; a ConfigError with all faults of all of them."""
    found: dict[str, Config] = {}
    wrong: list[Fault] = []
    for name, overrides in given.items():
        parsed, illegible = composer.parse(overrides)
        config, faults = composer.compose(parsed)
        wrong += [*illegible, *faults]
        if config is not None:
            found[name] = config
    if wrong:
        raise ConfigError(list(dict.fromkeys(wrong)))
    return found
