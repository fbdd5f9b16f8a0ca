"""Configs of the models that benchmarks measure; they are composed and checked before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attnbench.benchmarks.results import Settings
from attnbench.config import Config, ConfigError, Fault
from attnbench.config.root import COMPATIBLE_FAMILIES
from attnbench.config.task import ClassificationConfig
from attnbench.metrics.throughput import WARMUP_STEPS
from attnbench.sweeps.compose import Composer

TRAINING_MODELS = ("tiny", "toy", "rnn", "bahdanau", "luong", "small")
DECODING_MODELS = ("toy", "luong")
DEVICE_MODELS = ("tiny",)  # for the suite `devices`
BEAM_SIZES = {"greedy": 1, "beam 5": 5}  # for each group of peers_decoding
PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
_TRANSLATION_EXPERIMENT, _VISION_EXPERIMENT = (
    "synthetic_translation",
    "vit_synthetic_garments",
)  # experiments with generated data
_MULTI30K = "experiment=transformer_multi30k"


def compose_training_configs(settings: Settings) -> dict[str, Config]:
    """Compose the training config of each model; a run takes as many updates as one repeat.

    Args:
        settings: options of the command.

    Returns:
        Config by model name.

    Raises:
        ConfigError: with all faults of all models.
    """
    overrides = [
        f"trainer.max_steps={settings.warmup + settings.updates}",
        "trainer.max_epochs=null",
        f"trainer.precision={PRECISION[settings.dtype]}",
        f"trainer.accelerator={'gpu' if settings.device == 'cuda' else 'cpu'}",
        *_build_data_override(settings),
    ]
    return _compose_models(settings.models or TRAINING_MODELS, overrides, vision_experiment=_VISION_EXPERIMENT)


def compose_decoding_configs(settings: Settings) -> dict[str, Config]:
    """Compose the translation config of each model, on the generated language pair.

    Raises:
        ConfigError: with all faults of all models.
    """
    return _compose_models(
        settings.models or DECODING_MODELS,
        [f"data.val_pairs={settings.sentences}"],
        vision_experiment=_TRANSLATION_EXPERIMENT,
    )


def build_device_commands(settings: Settings) -> dict[str, list[str]]:
    """Build the overrides of `attnbench train` for one repeat of each model, without `trainer.devices`.

    Raises:
        ConfigError: with all faults of all models.
    """
    updates = WARMUP_STEPS + settings.updates
    overrides = [
        f"trainer.max_steps={updates}",
        "trainer.max_epochs=null",
        "trainer.final_weights=last",
        f"trainer.precision={PRECISION[settings.dtype]}",
        f"logger.log_every_n_steps={settings.updates}",
        f"debug.limit_batches={updates}",  # limits the test, which is not measured
        *_build_data_override(settings),
    ]
    composer = Composer()
    given = _build_overrides(
        composer, settings.models or DEVICE_MODELS, overrides, vision_experiment=_VISION_EXPERIMENT
    )
    _compose_all(composer, given)
    return given


def compose_peer_configs(suite: str, settings: Settings) -> dict[str, Config]:
    """Compose the configs of a suite with peers.

    Args:
        suite: one of results.CONTESTS.
        settings: options of the command.

    Returns:
        Config by group.

    Raises:
        ConfigError: with all faults of all groups.
    """
    given = {
        "peers_training": {"tiny": [_MULTI30K, *_build_data_override(settings)]},
        "peers_decoding": {
            group: [_MULTI30K, *_build_data_override(settings), f"task.beam_size={size}"]
            for group, size in BEAM_SIZES.items()
        },
        "peers_pictures": {"small": ["experiment=vit_fashion_mnist"], "vit_d2l": ["experiment=vit_d2l"]},
        "peers_recurrent": {f"{length} tokens": ["model=bahdanau_d2l", "attention=additive"] for length in (9, 64)},
        "overhead": {"tiny": [_MULTI30K, *_build_data_override(settings)]},
    }[suite]
    endless = ["trainer.accelerator=cpu", "trainer.max_epochs=null", "trainer.max_steps=1000000"]
    quiet = ["callbacks.progress_bar=false"]
    return _compose_all(Composer(), {group: [*overrides, *endless, *quiet] for group, overrides in given.items()})


def _build_data_override(settings: Settings) -> list[str]:
    return [] if settings.data is None else [f"data={settings.data}"]


def _compose_models(models: Sequence[str], overrides: Sequence[str], *, vision_experiment: str) -> dict[str, Config]:
    """Compose each model with the experiment of its task."""
    composer = Composer()
    return _compose_all(composer, _build_overrides(composer, models, overrides, vision_experiment=vision_experiment))


def _build_overrides(
    composer: Composer, models: Sequence[str], overrides: Sequence[str], *, vision_experiment: str
) -> dict[str, list[str]]:
    given = {}
    for model in models:
        chosen, _ = composer.parse([f"model={model}"])
        classifies = (
            composer.compose_choices(chosen).run_config.model.family
            in COMPATIBLE_FAMILIES[ClassificationConfig]["model"]
        )
        experiment = vision_experiment if classifies else _TRANSLATION_EXPERIMENT
        given[model] = [
            f"model={model}", f"experiment={experiment}", "logger=none", "callbacks=quiet", *overrides,
        ]  # fmt: skip
    return given


def _compose_all(composer: Composer, given: Mapping[str, Sequence[str]]) -> dict[str, Config]:
    """Compose the config of each list of overrides.

    Raises:
        ConfigError: with all faults of all lists.
    """
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
