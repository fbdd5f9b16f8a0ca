"""Training, decoding and startup: each measures what it says, on as little as there is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attnbench.benchmarks import decoding, device, device_scaling, startup, training
from attnbench.benchmarks.configs import compose_training_configs
from attnbench.benchmarks.measurement import measure_suite
from attnbench.benchmarks.results import Settings
from attnbench.config import Config, ConfigError
from attnbench.sweeps.plan import compose_run


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return compose_run([
        "model.depth=1", "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "data.train_pairs=48",
        "data.val_pairs=3", "data.test_pairs=3", "data.batch_tokens=128", "trainer.max_steps=3",
        "trainer.max_epochs=null", "trainer.accelerator=cpu", "logger=none", "callbacks=quiet",
        f"paths.cache={tmp_path_factory.mktemp('cache')}",
    ])  # fmt: skip


def test_training_is_measured_by_the_meter_of_records(asked: Callable[..., Settings], config: Config) -> None:
    found = training.plan_suite(asked(warmup=1), {"first": config, "second": config})
    rows = measure_suite(found, repeats=1, print_progress=lambda said: None)
    assert [(row.name, row.baseline, row.error) for row in rows] == [
        ("first", "first", None), ("second", "first", None),
    ]  # fmt: skip
    for row in rows:
        assert row.values["target_tokens_per_sec_p50"] > 0
        assert row.values["update_ms_p50"] > 0
        assert row.values["loading_ms_p50"] > 0
    assert found.notes[0].startswith("Data: synthetic_translation. 2 updates a repeat, after 1 others")


def test_decoding_finds_the_same_with_a_cache(
    asked: Callable[..., Settings], config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "SAMPLE_MS", 0.001)
    rows = measure_suite(decoding.plan_suite(asked(), {"tiny": config}), repeats=1, print_progress=lambda said: None)
    assert [(row.name, row.baseline, row.error) for row in rows] == [
        (f"{search}, {how}", f"{search}, recomputing", None)
        for search in ("greedy", "beam 5")
        for how in ("recomputing", "cached")
    ]
    lengths = [row.values["tokens_per_sentence"] for row in rows]
    assert lengths[0] == lengths[1]
    assert lengths[2] == lengths[3]
    assert all(row.values["sentences_per_sec_p50"] > 0 for row in rows)


def test_a_model_of_pictures_is_trained_on_pictures(asked: Callable[..., Settings]) -> None:
    found = compose_training_configs(asked(models=["toy", "cnn"], warmup=2, updates=3, dtype="bfloat16"))
    assert {model: config.data.family for model, config in found.items()} == {
        "toy": "synthetic_translation", "cnn": "synthetic_garments",
    }  # fmt: skip
    assert {(config.trainer.max_steps, config.trainer.precision.name) for config in found.values()} == {
        (5, "bf16-mixed")
    }


def test_startup_waits_for_the_answer_that_is_expected(asked: Callable[..., Settings]) -> None:
    subjects = startup.plan_suite(asked()).cases
    assert {subject.baseline for subject in subjects} == {subjects[0].name}
    assert subjects[0].measure_repeat()["seconds"] > 0
    assert startup.measure_table()["seconds"] > 0
    with pytest.raises(RuntimeError, match=r"^ended with status 1: not today$"):
        startup.measure_command(["-c", "raise SystemExit('oh\\nnot today')"])


@pytest.mark.slow
def test_startup_waits_for_the_first_update(asked: Callable[..., Settings]) -> None:
    for subject in startup.plan_suite(asked()).cases:
        assert subject.measure_repeat()["seconds"] > 0, subject.name


@pytest.mark.parametrize(("there", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_devices_are_doubled_until_all_are_there(
    asked: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, there: int, counts: list[int]
) -> None:
    monkeypatch.setattr(device_scaling, "count_cores", lambda: there)
    found = device_scaling.plan_suite(asked(models=["toy", "small"], threads=None)).cases
    names = [f"{count} x CPU, 1 thread a process" for count in counts]
    assert [(subject.group, subject.name) for subject in found] == [
        (model, name) for model in ("toy", "small") for name in names
    ]
    assert {subject.baseline for subject in found} == {names[0]}


def test_devices_refuses_what_training_would(asked: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError, match=r"model=tinny: expected one of"):
        device_scaling.plan_suite(asked(models=["tinny"]))


@pytest.mark.slow
def test_devices_share_an_update(asked: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_scaling, "count_cores", lambda: 2)
    for model, rate in {"toy": "target_tokens", "small": "images"}.items():
        for subject in device_scaling.plan_suite(asked(models=[model])).cases:
            found = subject.measure_repeat()
            assert set(found) == {f"{rate}_per_sec_global", "update_ms", "peak_rss_gib"}
            assert all(number > 0 for number in found.values())
