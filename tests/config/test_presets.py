"""Every file of conf/ composes to a config that is accepted, and the presets say what their papers say."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import attnbench.conf
from attnbench.config.model import Norm, Tie, TransformerConfig
from attnbench.config.root import SCHEMAS, revive
from attnbench.identity import resolved, run_id
from attnbench.sweep.plan import compose

CONF = Path(attnbench.conf.__file__).parent
NEEDS = {
    "data=files": ["data.train_source=a", "data.val_source=b"],
    "schedule=cosine": ["trainer.max_steps=10"],
    "model=tiny": ["data.joint_vocabulary=true"],
    "model=base": ["data.joint_vocabulary=true"],
    "model=big": ["data.joint_vocabulary=true"],
}
CHOICES = sorted(f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml"))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_survives_a_record(choice: str) -> None:
    config = compose([choice, *NEEDS.get(choice, [])])
    again = revive(resolved(config))
    assert again == config
    assert run_id(again) == run_id(config)


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")))
@pytest.mark.parametrize("sweep", sorted(path.stem for path in (CONF / "sweep").glob("*.yaml")))
def test_every_experiment_goes_into_every_sweep(experiment: str, sweep: str) -> None:
    config = compose([f"experiment={experiment}", f"sweep={sweep}"])
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
        ("tiny", (4, 128, 256, 4, 0.3, Norm.post, Tie.all)),  # Wu et al. 2021, section 4.1
        ("base", (6, 512, 2048, 8, 0.1, Norm.post, Tie.all)),  # Vaswani et al. 2017, Table 3
        ("big", (6, 1024, 4096, 16, 0.3, Norm.post, Tie.all)),  # the same
        ("d2l", (2, 256, 64, 4, 0.2, Norm.post, Tie.none)),  # d2l.ai, chapter 11.7
    ],
)
def test_presets_are_as_published(preset: str, expected: tuple[object, ...]) -> None:
    model = compose([f"model={preset}", "data.joint_vocabulary=true"]).model
    assert isinstance(model, TransformerConfig)
    assert (
        model.depth, model.d_model, model.d_ff, model.num_heads, model.dropout, model.norm, model.tie
    ) == expected  # fmt: skip


def test_the_published_learning_rate_is_the_peak_of_equation_3() -> None:
    config = compose(["experiment=transformer_wmt14"])
    assert isinstance(config.model, TransformerConfig)
    peak = config.model.d_model**-0.5 * config.schedule.warmup_steps**-0.5
    assert config.optim.lr == pytest.approx(peak, rel=1e-3)
    assert (config.optim.beta1, config.optim.beta2, config.optim.eps) == (0.9, 0.98, 1e-9)


def test_the_data_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNBENCH_DATA", "/somewhere")
    assert compose([]).paths.data == "/somewhere"
    monkeypatch.delenv("ATTNBENCH_DATA")
    assert compose([]).paths.data == "data"
