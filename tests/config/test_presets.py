"""Every file of conf/ composes to a config that is accepted, and the presets say what their papers say."""

from __future__ import annotations

import itertools

import pytest
from omegaconf import OmegaConf

from attnbench.config.folder import CONFIG_FOLDER
from attnbench.config.images import ImagesConfig
from attnbench.config.model import NormPlacement, Pool, TiedEmbeddings, TransformerConfig, VitConfig
from attnbench.config.optim import Optimizer, Schedule
from attnbench.config.root import COMPATIBLE_FAMILIES, SCHEMAS, config_from_dict
from attnbench.config.task import ClassificationConfig, LengthPenalty, TranslationConfig
from attnbench.models.build import build_classifier, build_model
from attnbench.records.identity import compute_run_id, config_to_dict
from attnbench.sweeps.plan import compose_run

CONF = CONFIG_FOLDER
NEEDS = {
    "data=files": ["data.train_source=a", "data.val_source=b"],
    "data=image_folder": ["data.folder=a"],
    "model=vit_d2l": ["data.image_size=96"],
}
# Choices that go together: what is about pictures, and what is about text, stands on the default's or this experiment.
PICTURES = "experiment=vit_synthetic_garments"


def on_pictures(choice: str) -> bool:
    group, name = choice.split("=")
    defaults = (OmegaConf.load(CONF / group / f"{name}.yaml").get("defaults") or []) if group in SCHEMAS else []
    family = next((found[f"/schema/{group}@_here_"] for found in defaults if not isinstance(found, str)), None)
    return family == "classification" or family in COMPATIBLE_FAMILIES[ClassificationConfig].get(group, ())


CHOICES = sorted(f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml"))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_survives_a_record(choice: str) -> None:
    config = compose_run([choice, *[PICTURES] * on_pictures(choice), *NEEDS.get(choice, [])])
    again = config_from_dict(config_to_dict(config))
    assert again == config
    assert compute_run_id(again) == compute_run_id(config)


EXPERIMENTS, SWEEPS = (sorted(path.stem for path in (CONF / group).glob("*.yaml")) for group in ("experiment", "sweep"))
# A sweep that names an experiment of its own gives way to every one; and every sweep to one of text, one of pictures.
OWN = next(name for name in SWEEPS if "override /experiment" in (CONF / "sweep" / f"{name}.yaml").read_text())
PAIRS = {
    *itertools.product(EXPERIMENTS, ["none", OWN]),
    *itertools.product(["synthetic_translation", "vit_synthetic_garments"], SWEEPS),
}


@pytest.mark.parametrize(("experiment", "sweep"), sorted(PAIRS))
def test_every_experiment_goes_into_every_sweep(experiment: str, sweep: str) -> None:
    config = compose_run([f"experiment={experiment}", f"sweep={sweep}"])
    assert config.name == experiment
    assert config.sweep.name == (experiment if sweep == "none" else sweep)


def test_every_family_has_a_file() -> None:
    for group, members in SCHEMAS.items():
        files = [OmegaConf.load(path) for path in (CONF / group).glob("*.yaml")]
        named = {default[f"/schema/{group}@_here_"] for file in files for default in file.get("defaults", [])
                 if not isinstance(default, str)}  # fmt: skip
        assert named == set(members)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("tiny", (4, 128, 256, 4, 0.3, NormPlacement.post, TiedEmbeddings.all)),  # Wu et al. 2021, section 4.1
        ("base", (6, 512, 2048, 8, 0.1, NormPlacement.post, TiedEmbeddings.all)),  # Vaswani et al. 2017, Table 3
        ("big", (6, 1024, 4096, 16, 0.3, NormPlacement.post, TiedEmbeddings.all)),  # the same
        ("d2l", (2, 256, 64, 4, 0.2, NormPlacement.post, TiedEmbeddings.none)),  # d2l.ai, chapter 11.7
    ],
)
def test_presets_are_as_published(preset: str, expected: tuple[object, ...]) -> None:
    model = compose_run([f"model={preset}", "data.joint_vocabulary=true"]).model
    assert isinstance(model, TransformerConfig)
    assert (
        model.depth, model.d_model, model.d_ff, model.num_heads, model.dropout, model.norm_placement,
        model.tie_embeddings,
    ) == expected  # fmt: skip


def test_the_published_learning_rate_is_the_peak_of_equation_3() -> None:
    config = compose_run(["experiment=transformer_wmt14"])
    assert isinstance(config.model, TransformerConfig)
    peak = config.model.d_model**-0.5 * config.schedule.warmup_steps**-0.5
    assert config.optim.lr == pytest.approx(peak, rel=1e-3)
    assert (config.optim.beta1, config.optim.beta2, config.optim.eps) == (0.9, 0.98, 1e-9)


@pytest.mark.parametrize("experiment", ["transformer_wmt14", "transformer_wmt14_big"])
def test_the_published_search_is_that_of_section_6_1(experiment: str) -> None:
    task = compose_run([f"experiment={experiment}"]).task
    assert isinstance(task, TranslationConfig)
    assert (task.beam_size, task.length_penalty, task.length_penalty_form) == (4, 0.6, LengthPenalty.wu)
    assert [int(length * task.max_ratio) + task.max_extra for length in (1, 30, 199)] == [51, 80, 249]


def test_the_data_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNBENCH_DATA", "/somewhere")
    assert compose_run([]).paths.data == "/somewhere"
    monkeypatch.delenv("ATTNBENCH_DATA")
    assert compose_run([]).paths.data == "data"


def test_the_vision_presets_are_as_published() -> None:
    d2l = compose_run(["experiment=vit_d2l"])  # d2l.ai, chapter 11.8
    assert isinstance(d2l.model, VitConfig)
    assert isinstance(d2l.data, ImagesConfig)
    model = d2l.model
    assert (model.depth, model.d_model, model.d_ff, model.num_heads, model.patch_size) == (2, 512, 2048, 8, 16)
    assert (model.dropout, model.activation_dropout, d2l.attention.dropout) == (0.1, 0.1, 0.1)
    assert (model.norm_placement, model.pool) == (NormPlacement.pre, Pool.cls)
    assert (d2l.data.image_size, d2l.data.batch_size, d2l.data.crop_padding, d2l.data.horizontal_flip) == (
        96,
        128,
        0,
        False,
    )
    assert (d2l.optim.name, d2l.optim.lr, d2l.optim.momentum) == (Optimizer.sgd, 0.1, 0)
    assert (d2l.schedule.name, d2l.trainer.max_epochs) == (Schedule.constant, 10)


def gru_size(inputs: int, hidden: int) -> int:
    return 3 * hidden * (inputs + hidden + 2)


def book_size(experiment: str, source: int, target: int) -> int:
    """Parameters of d2l.ai's models, chapters 10.7, 11.4, 11.7 and 11.8, for vocabularies of these sizes."""
    if experiment == "vit_d2l":
        d, d_ff, patch, tokens = 512, 2048, 16 * 16, 6 * 6 + 1
        block = 2 * 2 * d + 4 * d * d + d * d_ff + d_ff + d_ff * d + d
        return patch * d + d + d + tokens * d + 2 * block + 2 * d + 10 * d + 10
    d, d_ff = 256, 64
    rest = (source + target) * d + d * target + target
    if experiment == "transformer_tatoeba":
        feed_forward = d * d_ff + d_ff + d_ff * d + d
        return rest + 2 * (4 * d * d + feed_forward + 2 * 2 * d) + 2 * (8 * d * d + feed_forward + 3 * 2 * d)
    recurrent = 2 * gru_size(d, d) + gru_size(2 * d, d) + gru_size(d, d)
    return rest + recurrent + (2 * d * d + d if experiment == "bahdanau_tatoeba" else 0)


@pytest.mark.parametrize("experiment", ["rnn_tatoeba", "bahdanau_tatoeba", "transformer_tatoeba", "vit_d2l"])
def test_the_books_models_differ_as_their_presets_state(experiment: str) -> None:
    config, (source, target) = compose_run([f"experiment={experiment}"]), (194, 212)
    if experiment == "vit_d2l":
        network = build_classifier(config, channels=1, image_size=96, classes=10)
        difference = 4096 - 512
        assert book_size(experiment, 0, 0) == 6_457_866
    else:
        network = build_model(config, source_vocab=source, target_vocab=target)
        difference = 6144 * (experiment == "transformer_tatoeba") - target
        if experiment != "rnn_tatoeba":
            assert config.attention.dropout == 0.2
    size = sum(parameter.numel() for parameter in network.parameters())
    assert size - book_size(experiment, source, target) == difference


def test_one_dropout_is_said_once() -> None:
    model = compose_run(["experiment=vit_d2l", "model.dropout=0.4"]).model
    assert isinstance(model, VitConfig)
    assert model.activation_dropout == 0.4
