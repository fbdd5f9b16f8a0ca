"""A command is expanded as Hydra would, and refused with all that is wrong with it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.config.attention import Score
from attnbench.config.root import config_from_dict
from attnbench.data import checksums
from attnbench.records.identity import compute_run_id
from attnbench.sweeps.display import build_run_labels
from attnbench.sweeps.plan import build_plan, compose_run, get_sweep_folder


def refused(command: str, *, multirun: bool = True) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build_plan(command.split(), is_multirun=multirun)
    return str(caught.value).splitlines()


def test_the_whole_sweep_is_refused_at_once() -> None:
    assert refused("model.num_heads=3 attention.score=cosin optim.lr=-1") == [
        "attention.score=cosin: expected one of additive, concat, cosine, distance, dot, general, scaled_dot, uniform",
        "model.num_heads=3: expected a divisor of model.d_model=64, or model.d_k and model.d_v to be set",
        "optim.lr=-1: expected a number above 0",
    ]


def test_each_fault_is_told_once_however_many_combinations_have_it() -> None:
    assert sorted(refused("model.num_heads=3,4,5 optim.lr=-1,0.1 seed=range(10) model.norm_placement=pre,mid")) == [
        "model.norm_placement=mid: expected one of deepnorm, post, pre, sandwich",
        "model.num_heads=3: expected a divisor of model.d_model=64, or model.d_k and model.d_v to be set",
        "model.num_heads=5: expected a divisor of model.d_model=64, or model.d_k and model.d_v to be set",
        "optim.lr=-1: expected a number above 0",
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.num_head=3", "model.num_head=3: no such key; did you mean model.num_heads? model has init, depth,"),
        ("num_heads=3", "num_heads=3: no such key; did you mean model.num_heads? The config has name, seed,"),
        ("dropout=0", "dropout=0: no such key; did you mean model.dropout or attention.dropout? The config has"),
        ("modle=tiny", "modle=tiny: no such key; did you mean model? The config has name, seed,"),
        ("model.zzz=3", "model.zzz=3: no such key. model has init, depth,"),
        ("model.depth.x=3", "model.depth.x=3: no such key"),
        ("+model.zzz=3", "model.zzz=3: no such key. model has init, depth,"),
        ("~seed", "~seed: a key cannot be removed"),
        ("model=tinny", "model=tinny: expected one of bahdanau, "),
        ("experiment=nope", "experiment=nope: expected one of bahdanau_general_multi30k, bahdanau_multi30k,"),
        ("hydra/launcher=nope", "hydra/launcher=nope: expected one of attnbench, basic"),
        ("hydra.nope=1", "hydra.nope=1: Could not override 'hydra.nope'"),
        ("model.depth=two", "model.depth=two: expected a whole number"),
        ("model.depth=2.5", "model.depth=2.5: expected a whole number"),
        ("model.depth=", "model.depth: expected a whole number"),
        ("trainer.max_steps=many", "trainer.max_steps=many: expected a whole number or null"),
        ("trainer.compile=maybe", "trainer.compile=maybe: expected true or false"),
        ("optim.lr=fast", "optim.lr=fast: expected a number"),
        ("optim.lr=nan", "optim.lr=nan: expected a number above 0"),
        ("logger.tags=a", "logger.tags=a: expected a list, as in [a,b]"),
        ("model=null", "model=null: expected one of bahdanau, "),
        ("model.family=rnn", "model.family=rnn: not to be set by hand: choose model=<name>"),
        ("data=files", "data.train_source: not set, and there is no default: add data.train_source=<value>"),
        ("sweep.name=a/b", "sweep.name=a/b: expected a folder name"),
        ("model.depth", "model.depth: expected key=value"),
        ("model.depth=[1", "model.depth=[1: cannot be read: quote"),
        ("model.depth=interval(1,4)", "model.depth=interval(1,4): expected values to list"),
        ("seed=range(3,3)", "seed=range(3,3): expected at least one value"),
        (
            "hydra.run.dir=x",
            "hydra.run.dir=x: the folder of a run is <paths.output>/<sweep.name>/<run_id>: set",
        ),
        ("hydra.verbose=true,false", "hydra.verbose=true,false: expected one value"),
        ("position=learned position.max_len=8", "position.max_len=8: expected at least data.max_len=64"),
        ("position=rotary attention=additive", "attention.score=additive: expected one of scaled_dot, dot, cos"),
        ("position=rotary model.d_k=3", "model.num_heads=4 (of width 3): expected heads whose width is a multi"),
        ("schedule=cosine trainer.max_epochs=null trainer.max_minutes=1", "trainer.max_steps=null: expected it or"),
        ("trainer.precision=16-mixed trainer.accelerator=cpu", "trainer.precision=16-mixed: expected bf16-mixed"),
        ("trainer.strategy=fsdp", "trainer.devices=1: expected several: strategy=fsdp divides a model among them"),
        ("trainer.strategy=deepspeed", "trainer.strategy=deepspeed: expected one of auto, ddp, fsdp"),
        (
            "trainer.activation_checkpointing=true model=luong",
            "trainer.activation_checkpointing=True: expected false: model=recurrent has no blocks",
        ),
        (
            "trainer.activation_checkpointing=true model.norm_type=batch",
            "trainer.activation_checkpointing=True: expected false: model.norm_type=",
        ),
        (
            "trainer.activation_checkpointing=true attention.normalizer=reinforce",
            "trainer.activation_checkpointing=True: expected false: attention.",
        ),
        ("experiment=transformer_multi30k,transformer_tatoeba", "sweep.name="),
    ],
)
def test_what_is_wrong_is_said_in_one_line(override: str, expected: str) -> None:
    said = refused(override)
    assert said[0].startswith(expected)
    assert len(said) == 1 + (override == "data=files"), said


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("~schedule", "~schedule: a key cannot be removed"),
        ("~sweep", "~sweep: a key cannot be removed"),
        ("~model=toy", "~model: a key cannot be removed"),
        ("~hydra/launcher", "~hydra/launcher: cannot be removed"),
        ("schedule=null", "schedule=null: expected one of constant, cosine, inverse_sqrt"),
        ("sweep=null", "sweep=null: expected one of"),
        ("logger=[[1],[2]]", "logger=[[1],[2]]: expected one of csv, none, tensorboard, wandb"),
        ("logger=[csv,none]", "logger=[csv,none]: expected one of csv, none, tensorboard, wandb"),
        ("hydra/sweeper=[]", "hydra/sweeper=[]: expected one of basic, grid, optuna, random"),
        ("model=" + "a" * 5000, "model=aaaa"),
        ("model.depth=" + "9" * 5000, "model.depth=9999"),
        ("=3", "=3: expected key=value"),
        ("hydra.verbose=???", "hydra.verbose=???: Missing mandatory value"),
        ("hydra.verbose=3", "hydra.verbose=3: expected true, false, or the names of loggers"),
        ("hydra.job.name=${x}", "hydra.job.name=${x}: Interpolation key 'x' not found"),
        ("hydra.job.name=a/b", "hydra.job.name=a/b: expected a file name"),
        ("hydra.job.chdir=true", "hydra.job.chdir=true: expected false: paths are relative to the folder"),
        ("hydra.job.env_copy=[NOT_THERE]", "hydra.job.env_copy=[NOT_THERE]: this key does not accept this value"),
        ("hydra.job_logging.root.level=LOUD", "hydra.job_logging.root.level=LOUD: hydra.job_logging.root.level: exp"),
        ("hydra.launcher=5", "hydra.launcher=5: expected keys with values"),
        ("hydra.runtime.cwd=x", "hydra.runtime.cwd=x: set by Hydra itself"),
        ("hydra.sweeper.params={a:1}", "hydra.sweeper.params={a:1}: this key does not accept this value"),
        ("hydra.sweeper.max_batch_size=0", "hydra.sweeper.max_batch_size=0: expected a whole number at least 1"),
        ("seed=range(0,5,0)", "seed=range(0,5,0): expected at least one value"),
        ("seed=range(0,1000000000000)", "seed=range(0,1000000000000): expected at most 100000 values"),
        ("seed=range(1000) model.depth=range(1,200)", "--multirun: expected at most 100000 combinations, not 199000"),
    ],
)
def test_what_would_fail_later_is_refused_with_the_rest(override: str, expected: str) -> None:
    (first, *_) = refused(override)
    assert first.startswith(expected)
    assert len(first) < 500


def test_an_interpolation_is_kept_as_typed_in_the_overrides() -> None:
    (planned,) = build_plan(["optim.lr=${..seed}", "seed=2"], is_multirun=False).runs
    assert planned.overrides == ["optim.lr=${..seed}", "seed=2"]
    assert planned.config["optim"]["lr"] == 2.0


def test_a_file_that_changes_the_folder_of_the_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra:\n  sweep:\n    subdir: x\n  job:\n    chdir: true\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        build_plan(["experiment=mine"], is_multirun=True, config_dir=str(tmp_path))
    assert [str(fault)[:22] for fault in caught.value.faults] == ["hydra.job.chdir=true: "]


def test_a_sweep_needs_multirun() -> None:
    assert refused("model.depth=1,2 optim.lr=-1", multirun=False) == [
        "model.depth=1,2: several values define a sweep: add -m, or write a list as [a,b]",
        "optim.lr=-1: expected a number above 0",
    ]


def test_an_interpolation_that_leads_nowhere() -> None:
    assert refused("sweep.name=${nope}", multirun=False) == ["sweep.name=${nope}: Interpolation key 'nope' not found"]


def test_an_interpolation_without_an_end_is_refused() -> None:
    (said,) = refused("model.depth=${run_id:}", multirun=False)
    assert said.startswith("model.depth=${run_id:}: RecursionError raised while resolving")


def test_nothing_is_said_of_a_group_whose_choice_is_unknown() -> None:
    said = refused("data=multi3k data.variant=raw model.num_heads=3 model.typo=1")
    assert [line.partition("=")[0] for line in said] == ["data", "model.typo", "model.num_heads"]
    assert [line.partition("=")[0] for line in refused("experiment=x data.variant=raw optim.lr=0")] == [
        "experiment",
        "optim.lr",
    ]


def test_a_sweep_file_gives_values_and_the_command_wins() -> None:
    plan = build_plan(["sweep=heads", "model.num_heads=2,4", "seed=1,2", "sweep.tune.params=null"], is_multirun=True)
    assert plan.sweep == "heads"
    assert plan.command == ["sweep=heads", "model.num_heads=2,4", "seed=1,2", "sweep.tune.params=null"]
    assert [(run.config["model"]["num_heads"], run.config["seed"]) for run in plan.runs] == [
        (2, 1), (2, 2), (4, 1), (4, 2)
    ]  # fmt: skip
    assert len(build_plan(["sweep=heads"], is_multirun=True).runs) == 4 * 4, "four candidates each"


def test_the_spine_is_planned() -> None:
    plan = build_plan(["sweep=spine"], is_multirun=True)
    assert len({run.run_id for run in plan.runs}) == len(plan.runs) == 8
    assert get_sweep_folder(plan.runs[0].config) == Path("multirun/spine")


def test_without_multirun_a_sweep_file_is_one_run() -> None:
    assert len(build_plan(["sweep=heads"], is_multirun=False).runs) == 1


def test_a_planned_run_is_the_run_that_its_overrides_compose() -> None:
    for run in build_plan(["sweep=spine", "model=tiny", "data.joint_vocabulary=true"], is_multirun=True).runs:
        assert run.run_id == compute_run_id(compose_run(run.overrides))


def test_the_same_run_is_planned_once() -> None:
    assert len(build_plan(["seed=1,1,2", "logger=none,csv"], is_multirun=True).runs) == 2


def test_values_are_set_after_choices_wherever_they_stand() -> None:
    config = compose_run(["model.d_model=32", "attention.score=dot", "model=tiny", "experiment=transformer_multi30k"])
    assert (config.model.d_model, config.model.depth) == (32, 4)  # type: ignore[attr-defined]
    assert config.attention.score is Score.dot


def test_a_folder_of_ones_own_groups(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [toy, _self_]\ndepth: 3\n")
    plan = build_plan(["model=mine"], is_multirun=False, config_dir=str(tmp_path))
    assert plan.runs[0].config["model"]["depth"] == 3
    (tmp_path / "model" / "wrong.yaml").write_text("defaults: [toy, _self_]\ndeep: 3\n")
    with pytest.raises(ConfigError, match=r"model=wrong: .*model/wrong.*deep"):
        build_plan(["model=wrong"], is_multirun=False, config_dir=str(tmp_path))
    (tmp_path / "model" / "broken.yaml").write_text("depth: [3\n")
    with pytest.raises(ConfigError, match=r"model=broken: .*/model/broken\.yaml:2: expected"):
        build_plan(["model=broken"], is_multirun=False, config_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="--config-dir=nowhere: expected an existing folder"):
        build_plan([], is_multirun=False, config_dir="nowhere")


def test_a_job_is_called_by_what_it_has_of_its_own() -> None:
    assert build_run_labels([["seed=1", "depth=2"], ["seed=2", "depth=2"]]) == ["seed=1", "seed=2"]
    assert build_run_labels([["seed=1", "depth=2"]]) == ["seed=1 depth=2"]
    assert build_run_labels([]) == []


def test_other_text_behind_a_path_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_CACHE_LIFETIME_FACTOR", 0)  # files are looked at for each config
    command = [
        "data=files", "data.max_len=32", "data.batch_tokens=64", "trainer.max_steps=1", f"paths.cache={tmp_path}/cache",
        *(f"data.{key}={tmp_path}/{key}" for key in ("train_source", "val_source")),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"data\.train_source=.*: expected a file that is there") as refused:
        build_plan(command, is_multirun=True)
    assert len(refused.value.faults) == 2
    ids = []
    for text in ("a\tb\n", "a\tc\n", "a\tb\n"):
        for key in ("train_source", "val_source"):
            (tmp_path / key).write_text(text)
        (run,) = build_plan(command, is_multirun=False).runs
        assert run.config["data"]["checksum"] is not None
        assert run.run_id == compute_run_id(config_from_dict(run.config)), (
            "a checkpoint's config is not compared with files"
        )
        ids.append(run.run_id)
    assert ids[0] == ids[2] != ids[1]
