from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.config import Config, ConfigError, validate_config
from attnbench.config.attention import Score
from attnbench.config.data import SyntheticTranslationConfig
from attnbench.config.metrics import BleuTokenizer
from attnbench.config.model import (
    CnnConfig,
    MlpConfig,
    ModelConfig,
    NormPlacement,
    NormType,
    TransformerConfig,
    VitConfig,
)
from attnbench.config.optim import Optimizer
from attnbench.config.root import config_from_dict
from attnbench.config.task import TranslationConfig
from attnbench.config.tracking import Logger, OnOutOfMemory
from attnbench.config.trainer import Accelerator, FinalWeights, Precision, Strategy, TrainerConfig
from attnbench.records import identity
from attnbench.records.identity import collect_provenance, compute_run_id, config_to_dict, select_identity


def a_config() -> Config:
    return Config(
        task=TranslationConfig(),
        data=SyntheticTranslationConfig(),
        model=TransformerConfig(norm_placement=NormPlacement.pre),
        trainer=TrainerConfig(max_steps=5),
    )


SAME: dict[str, Callable[[Config], object]] = {
    "name": lambda c: setattr(c, "name", "other"),
    "paths": lambda c: setattr(c.paths, "data", "/elsewhere"),
    "logger": lambda c: setattr(c.logger, "name", Logger.none),
    "callbacks": lambda c: setattr(c.callbacks, "pictures", False),
    "sweep": lambda c: setattr(c.sweep, "name", "other"),
    "accelerator": lambda c: setattr(c.trainer, "accelerator", Accelerator.gpu),
    "devices": lambda c: setattr(c.trainer, "devices", 8),
    "num_nodes": lambda c: setattr(c.trainer, "num_nodes", 2),
    "strategy": lambda c: setattr(c.trainer, "strategy", Strategy.ddp),
    "num_threads": lambda c: setattr(c.trainer, "num_threads", 1),
    "micro_batch_size": lambda c: setattr(c.trainer, "micro_batch_size", 128),
    "activation_checkpointing": lambda c: setattr(c.trainer, "activation_checkpointing", True),
    "save_every_minutes": lambda c: setattr(c.trainer, "save_every_minutes", 1.0),
}
OTHER: dict[str, Callable[[Config], object]] = {
    "seed": lambda c: setattr(c, "seed", 2),
    "task": lambda c: setattr(c.task, "label_smoothing", 0.2),
    "data": lambda c: setattr(c.data, "batch_tokens", 2048),
    "model": lambda c: setattr(c.model, "norm_placement", NormPlacement.post),
    "attention": lambda c: setattr(c.attention, "dropout", 0.1),
    "position": lambda c: setattr(c.position, "max_len", 99),
    "metrics": lambda c: setattr(c.metrics, "tokenize", BleuTokenizer["char"]),
    "optim": lambda c: setattr(c.optim, "lr", 0.5),
    "schedule": lambda c: setattr(c.schedule, "warmup_steps", 7),
    "trainer": lambda c: setattr(c.trainer, "max_steps", 6),
    "precision": lambda c: setattr(c.trainer, "precision", Precision["bf16-mixed"]),
    "debug": lambda c: setattr(c.debug, "limit_batches", 2),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_changes_no_result_changes_no_id(change: Callable[[Config], object]) -> None:
    config = a_config()
    change(config)
    assert config_to_dict(config) != config_to_dict(a_config())
    assert compute_run_id(config) == compute_run_id(a_config())


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_what_may_change_a_result_changes_the_id(change: Callable[[Config], object]) -> None:
    config = a_config()
    change(config)
    assert compute_run_id(config) != compute_run_id(a_config())


def with_batch_norm(**trainer: object) -> Config:
    config = a_config()
    assert isinstance(config.model, TransformerConfig)
    assert isinstance(config.data, SyntheticTranslationConfig)
    config.model.norm_type, config.data.batch_tokens = NormType.batch, 1000
    for key, value in trainer.items():
        setattr(config.trainer, key, value)
    return config


@pytest.mark.parametrize(
    "division",
    [
        {"micro_batch_size": 500},
        {"micro_batch_size": 400},
        {"devices": 2},
        {"num_nodes": 2},
        {"devices": 2, "micro_batch_size": 250},
    ],
)
def test_with_batch_norm_how_an_update_is_divided_is_part_of_a_run(division: dict[str, object]) -> None:
    assert compute_run_id(with_batch_norm(**division)) != compute_run_id(with_batch_norm())
    flat = select_identity(config_to_dict(with_batch_norm(**division)))["trainer"]
    assert flat != select_identity(config_to_dict(with_batch_norm()))["trainer"], "and a table does not average over it"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"micro_batch_size": 1000}),
        ({}, {"micro_batch_size": 4000}),
        ({"micro_batch_size": 500}, {"micro_batch_size": 999}),
        ({"devices": 2}, {"num_nodes": 2}),
        ({"devices": 2}, {"devices": 2, "strategy": Strategy.ddp}),
        ({"micro_batch_size": 500}, {"micro_batch_size": 500, "num_threads": 2}),
    ],
)
def test_the_same_division_is_the_same_run(one: dict[str, object], other: dict[str, object]) -> None:
    assert compute_run_id(with_batch_norm(**one)) == compute_run_id(with_batch_norm(**other))


def test_with_batch_norm_shares_of_a_model_are_not_copies() -> None:
    one, other = ({"devices": 2, "strategy": strategy} for strategy in (Strategy.ddp, Strategy.fsdp))
    assert compute_run_id(with_batch_norm(**one)) != compute_run_id(with_batch_norm(**other))


def test_with_batch_norm_a_batch_is_not_halved_behind_a_runs_back() -> None:
    config = with_batch_norm()
    config.sweep.on_oom = OnOutOfMemory.halve_batch
    with pytest.raises(ConfigError, match=r"sweep\.on_oom=halve_batch: expected fail: with batch norm"):
        validate_config(config)


UNREAD: dict[str, Callable[[Config], object]] = {
    "average_last": lambda c: setattr(c.trainer, "average_last", 3),
    "momentum": lambda c: setattr(c.optim, "momentum", 0.9),
    "detect_anomaly": lambda c: setattr(c.debug, "detect_anomaly", True),
}


@pytest.mark.parametrize("change", UNREAD.values(), ids=UNREAD)
def test_what_nothing_reads_changes_no_id(change: Callable[[Config], object]) -> None:
    config = a_config()
    change(config)
    assert compute_run_id(config) == compute_run_id(a_config())


def test_a_key_counts_where_it_is_read() -> None:
    one, other = a_config(), a_config()
    for config in (one, other):
        config.optim.name, config.trainer.final_weights = Optimizer.sgd, FinalWeights.average
    other.optim.beta1 = 0.5
    assert compute_run_id(one) == compute_run_id(other)
    other.optim.momentum = 0.9
    assert compute_run_id(one) != compute_run_id(other)
    other.optim.momentum, other.trainer.average_last = 0.0, 3
    assert compute_run_id(one) != compute_run_id(other)


@pytest.mark.parametrize(("model", "reads"), [(MlpConfig(), False), (CnnConfig(), False), (VitConfig(), True)])
def test_attention_counts_where_a_model_attends(model: ModelConfig, reads: bool) -> None:
    one, other = a_config(), a_config()
    one.model = other.model = model
    other.attention.score, other.position.max_len = Score.additive, 99
    assert (compute_run_id(one) != compute_run_id(other)) is reads


def test_every_group_is_on_one_side_or_the_other() -> None:
    assert set(config_to_dict(a_config())) <= SAME.keys() | OTHER.keys()
    assert (
        set(config_to_dict(a_config())["trainer"]) - set(select_identity(config_to_dict(a_config()))["trainer"])
        <= SAME.keys()
    )


def test_an_id_is_the_same_in_another_process() -> None:
    assert len(compute_run_id(a_config())) == 12
    assert int(compute_run_id(a_config()), 16) >= 0
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_identity import a_config, compute_run_id; print(compute_run_id(a_config()))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert found.stdout.strip() == compute_run_id(a_config())


def test_a_resolved_config_is_plain_and_can_be_revived() -> None:
    plain = config_to_dict(a_config())
    assert plain["model"]["norm_placement"] == "pre"
    stored = json.loads(json.dumps(plain))
    assert stored == plain
    assert config_from_dict(stored) == a_config()
    assert compute_run_id(config_from_dict(stored)) == compute_run_id(a_config())


def test_provenance_is_plain_and_names_code_machine_and_data() -> None:
    found = collect_provenance({"train.en": "ab12"}, device="NVIDIA H200", num_threads=2)
    assert json.loads(json.dumps(found)) == found
    assert found["data"] == {"train.en": "ab12"}
    assert (found["device"], found["threads"]) == ("NVIDIA H200", 2)
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(found["versions"][name] for name in ("attnbench", "torch", "hydra-core", "sacrebleu"))
    assert found["cpu"]
    assert found["cpu_cores"] >= 1


def git(folder: Path, *arguments: str) -> str:
    author = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", str(folder), *author, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_and_whether_the_code_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_REPOSITORY", tmp_path)
    assert collect_provenance({})["git"] is None  # no repository
    git(tmp_path, "init")
    assert collect_provenance({})["git"] is None  # no commit
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "results.txt").write_text("not code")
    assert collect_provenance({})["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "src" / "b.py").write_text("2")
    assert collect_provenance({})["git"] == {"commit": commit, "dirty": True}
    monkeypatch.setattr(identity, "_REPOSITORY", tmp_path / "src")
    assert collect_provenance({})["git"] is None  # installed inside another repository


def test_a_machine_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert collect_provenance({})["git"] is None
