"""The fast composition against Hydra's own, over many sets of overrides."""

from __future__ import annotations

import dataclasses
import pickle
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnbench.config import Config, ConfigError, validate_config
from attnbench.sweeps.compose import CONFIG_NAME, Composer, get_composer, get_shared_composer, remove_hydra_node
from attnbench.sweeps.plan import build_plan, compose_run, get_run_folder

CHOICES = {
    "experiment": ["synthetic_translation", "luong_synthetic_translation", "transformer_multi30k", "vit_d2l", "none"],
    "model": ["toy", "tiny", "bahdanau", "cnn", "vit_toy"],
    "data": ["multi30k", "synthetic_translation", "files"],
    "attention": ["dot", "additive"],
    "position": ["learned", "rotary", "none"],
    "schedule": ["cosine", "constant"],
    "trainer": ["gpu", "ddp_cpu"],
    "sweep": ["heads", "none"],
    "variation": ["heads_2", "positions_learned"],
    "hydra/launcher": ["basic"],
}
VALUES = {
    "seed": ["7", "${model.depth}"],
    "name": ["a", "a_${seed}", "'x y'"],
    "sweep.name": ["b", "${name}_${seed}", "run${optim.lr}"],
    "model": ["{depth: 3}", "{depth: 2, d_model: 32}"],
    "model.depth": ["2", "5", "0", "two"],
    "model.d_model": ["32", "${model.d_ff}", "${.d_ff}"],
    "model.dropout": ["0.25", "1e-1", "${attention.dropout}"],
    "optim.lr": ["1e-3", "${..seed}", "${seed}", "-1"],
    "optim.gradient_clip_val": ["null", "2"],
    "trainer.max_steps": ["100", "null"],
    "trainer.precision": ["bf16-mixed"],
    "logger.tags": ["[a,b]", "[]"],
    "data.batch_tokens": ["2048", "${data.max_len}"],
    "data.train_source": ["a.en"],
    "paths.output": ["out", "${name}/x"],
    "hydra.verbose": ["true"],
    "hydra.job.name": ["job_${seed}"],
}


def override_sets(count: int) -> Iterator[list[str]]:
    """Yield the same random sets of overrides each time, of choices and values in any order."""
    generator = random.Random(20)
    for _ in range(count):
        chosen = generator.sample(sorted(CHOICES), generator.choice([0, 0, 1, 1, 2]))
        valued = generator.sample(sorted(VALUES), generator.randint(0, 6))
        lines = [f"{key}={generator.choice(CHOICES[key])}" for key in chosen]
        lines += [f"{key}={generator.choice(VALUES[key])}" for key in valued]
        generator.shuffle(lines)
        yield lines


def compose_with_hydra(lines: Sequence[str]) -> Config | None:
    """Compose with nothing but Hydra; None where it, or the schema, refuses."""
    loader = get_shared_composer()._loader
    try:
        return validate_config(remove_hydra_node(loader.load_configuration(CONFIG_NAME, list(lines), RunMode.RUN)))
    except (HydraException, OmegaConfBaseException, ConfigError, ValueError):
        return None


@pytest.mark.parametrize("part", range(6))
def test_the_same_configs_and_refusals_as_of_hydra(part: int) -> None:
    composed = 0
    for lines in list(override_sets(60))[part::6]:
        try:
            ours: Config | None = compose_run(lines)
        except ConfigError:
            ours = None
        assert ours == compose_with_hydra(lines), lines
        composed += ours is not None
    assert composed > 3, "most sets say nothing if most are refused"


def master(*hydra: str) -> DictConfig:
    """Return what Hydra composes for a command of a multirun."""
    loader = get_shared_composer()._loader
    return loader.load_configuration(CONFIG_NAME, [*hydra, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)


def content(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=False)


@pytest.mark.parametrize("hydra", [[], ["hydra.verbose=true", "hydra/job_logging=disabled"]], ids=["plain", "settings"])
def test_a_job_has_the_config_of_hydra_s_own_sweep(hydra: list[str]) -> None:
    command, compared = master(*hydra), 0
    loader: ConfigLoaderImpl = get_shared_composer()._loader
    for number, lines in enumerate(override_sets(25)):
        own = [line for line in lines if not line.startswith("hydra")]
        try:
            config, job = get_composer(command).compose_job(command, own, number)
        except ConfigError:
            continue
        expected = loader.load_sweep_config(command, own)
        expected.hydra.job.id = expected.hydra.job.num = number
        built = pickle.loads(pickle.dumps(job)).build_config()  # as in a process of its own
        assert content(built) == content(expected), own
        assert validate_config(remove_hydra_node(built)) == config
        assert Path(built.hydra.sweep.dir, built.hydra.sweep.subdir) == get_run_folder(config)
        compared += 1
    assert compared > 8


def test_a_job_that_is_wrong_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.depth=0: expected a number at least 1"):
        get_shared_composer().compose_job(master(), ["model.depth=0"], 0)


def test_values_of_one_run_are_not_those_of_the_next() -> None:
    composer = Composer()
    depths = [
        composer.compose(composer.parse(lines)[0])[0] for lines in (["model.depth=5"], [], ["model={depth: 3}"], [])
    ]
    assert [config.model.depth for config in depths if config] == [5, 2, 3, 2]  # type: ignore[attr-defined]
    first, second = (composer.compose([])[0] for _ in range(2))
    assert first is not None
    assert second is not None
    first.logger.tags.append("mine")
    assert second.logger.tags == []


def test_an_interpolation_follows_what_it_names_in_another_group() -> None:
    plan = build_plan(["seed=1,2", "model.depth=${seed}"], is_multirun=True)
    assert [run.config["model"]["depth"] for run in plan.runs] == [1, 2]


def test_groups_are_composed_once_for_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    composed: list[list[str]] = []
    load = ConfigLoaderImpl.load_configuration

    def counted(self: ConfigLoaderImpl, name: str, overrides: list[str], *rest: Any, **more: Any) -> DictConfig:
        composed.append(overrides)
        return load(self, name, overrides, *rest, **more)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    get_shared_composer.cache_clear()
    plan = build_plan(["model=toy,tiny", "seed=range(20)", "model.depth=1,2"], is_multirun=True)
    assert len(plan.runs) == 80
    assert sorted(map(str, composed)) == ["['model=tiny']", "['model=toy']", "[]"]
    command = master()
    before = len(composed)
    for number, run in enumerate(plan.runs):
        get_composer(command).compose_job(command, run.overrides, number)
    assert len(composed) == before, "the launcher composes nothing that the plan has composed"


def test_the_parts_of_a_job_can_be_compared() -> None:
    command = master()
    first, second = (get_shared_composer().compose_job(command, ["seed=3"], 1)[1] for _ in range(2))
    assert dataclasses.replace(first, number=2) != second
    assert first.base_config is second.base_config, "what jobs share is not copied"
