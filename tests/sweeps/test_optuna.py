"""A search by Optuna: trials become runs of the plan, records become values, and a second command goes on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from attnbench.config import Config, ConfigError
from attnbench.records.identity import compute_run_id
from attnbench.records.lifecycle import build_exception_error, create_record, load_previous_record, write_final_status
from attnbench.records.record import SCHEMA_VERSION, FailureReason, Plan, Status, read_plan, write_record
from attnbench.sweeps.compose import Composer
from attnbench.sweeps.display import Outcome
from attnbench.sweeps.optuna_search import OptunaSearch, build_study_name
from attnbench.sweeps.optuna_study import Direction, OptunaOptions, Sampler, open_study
from attnbench.sweeps.plan import build_plan
from attnbench.sweeps.search_space import SearchSpace
from attnbench.sweeps.supervisor import supervise
from attnbench.training.optuna_trial import Pruner, build_reporter

KEYS = ["optim.lr=tag(log,interval(1e-4,1e-1))", "model.depth=range(1,5)", "optim.gradient_clip_val=1.0", "logger=none"]
Fate = Callable[[Config, Path], None]


@functools.cache
def composer() -> Composer:
    return Composer()


def compose(lines: list[str]) -> Config:
    config, faults = composer().compose(composer().parse(lines)[0])
    if config is None:
        raise ConfigError(faults)
    return config


def space(*overrides: str) -> SearchSpace:
    return SearchSpace(composer().parse(overrides or KEYS)[0])


def finish(config: Config, folder: Path) -> None:
    """A run that tells its study of two epochs, the better the larger its learning rate, and may be ended by it."""
    record = create_record(config, [], load_previous_record(folder))
    assert config.sweep.study is not None
    assert config.sweep.trial is not None
    _, report = build_reporter(folder.parent, config.sweep.study, config.sweep.trial)
    for epoch in (1, 2):
        if report(epoch, config.optim.lr * epoch):
            write_final_status(
                record,
                folder,
                Status.failed,
                {"kind": FailureReason.pruned.value, "type": "Pruned", "message": "enough"},
            )
            return
    record.status = Status.finished
    write_record(record, folder)


def fail(config: Config, folder: Path) -> None:
    write_final_status(create_record(config, []), folder, Status.failed, build_exception_error(RuntimeError("boom")))


def search(folder: Path, options: OptunaOptions, fate: Fate = finish, *overrides: str) -> list[list[str]]:
    """What was launched, in order."""
    launched: list[list[str]] = []

    def launch(jobs: list[list[str]], first: int) -> None:
        for lines in jobs:
            config = compose(lines)
            where = folder / compute_run_id(config)
            before = load_previous_record(where)
            if before is None or (before.status is not Status.finished and before.status_label != FailureReason.pruned):
                fate(config, where)
        launched.extend(jobs)

    if not (folder / "plan.json").exists():
        write_record(Plan(SCHEMA_VERSION, "small", KEYS, []), folder)
    OptunaSearch(folder, space(*overrides), options, max_parallel=1, compose=compose, launch=launch).run()
    return launched


def test_the_plan_grows_and_the_same_command_goes_on(tmp_path: Path) -> None:
    options = OptunaOptions(n_trials=7, startup=3, prune_after_trials=2)
    launched = search(tmp_path, options)
    assert [line[-1] for line in launched] == [f"sweep.trial={number}" for number in range(7)]
    assert [run.overrides for run in read_plan(tmp_path / "plan.json").runs] == launched
    drawn = build_plan(["hydra/sweeper=optuna", "hydra.sweeper.startup=3", *KEYS], is_multirun=True)
    assert [run.run_id for run in drawn.runs] == [compute_run_id(compose(line)) for line in launched[:3]], (
        "known beforehand"
    )
    study = open_study(tmp_path, build_study_name(space(), options), options)
    states = [trial.state.name for trial in study.trials]
    assert set(states) == {"COMPLETE", "PRUNED"}
    assert study.best_value == pytest.approx(2 * max(compose(line).optim.lr for line in launched))
    assert search(tmp_path, options) == launched
    assert search(tmp_path, OptunaOptions(n_trials=8, startup=3), finish)[:7] == launched
    assert len(study.trials) == 8


def test_a_study_that_is_lost_is_made_again_from_records(tmp_path: Path) -> None:
    options = OptunaOptions(n_trials=3, sampler=Sampler.random, pruner=Pruner.none)
    launched = search(tmp_path, options)
    for path in tmp_path.glob("*/run.json"):
        record = load_previous_record(path.parent)
        assert record is not None
        record.metrics["best"] = {"bleu": 7.5}
        write_record(record, path.parent)
    (tmp_path / "optuna.journal").unlink()
    assert search(tmp_path, options) == launched
    study = open_study(tmp_path, build_study_name(space(), options), options)
    assert [trial.value for trial in study.trials] == [7.5] * 3


def test_what_failed_is_tried_again_and_what_cannot_be_composed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = OptunaOptions(n_trials=2, startup=2)
    search(tmp_path, options, fail)
    study = open_study(tmp_path, build_study_name(space(), options), options)
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "RUNNING"]
    search(tmp_path, options)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    search(tmp_path / "other", options, finish, "model.num_heads=3,5")
    assert "attnbench: trial 0 is refused: model.num_heads=" in capsys.readouterr().out


def test_it_is_the_same_study_whoever_watches_it() -> None:
    options = OptunaOptions()
    assert build_study_name(space(*KEYS, "sweep.workers=2", "logger=csv"), options) == build_study_name(
        space(), options
    )
    assert build_study_name(space(*KEYS, "model.norm_placement=pre"), options) != build_study_name(space(), options)
    assert build_study_name(space(), OptunaOptions(metric="loss")) != build_study_name(space(), options)


@pytest.mark.parametrize(("metric", "expected"), [("val/loss", Direction.minimize), (None, Direction.maximize)])
def test_less_is_better_of_a_loss(metric: str | None, expected: Direction, tmp_path: Path) -> None:
    assert open_study(tmp_path, "one", OptunaOptions(metric=metric)).direction.name == expected.name.upper()


@pytest.mark.parametrize(("monitor", "expected"), [("loss", "MINIMIZE"), ("chrf", "MAXIMIZE")])
def test_without_a_metric_the_one_that_chooses_weights_counts(monitor: str, expected: str, tmp_path: Path) -> None:
    options, keys = OptunaOptions(n_trials=2, pruner=Pruner.none), [*KEYS, f"task.monitor={monitor}"]

    def leave_scores(config: Config, folder: Path) -> None:
        record = create_record(config, [])
        record.status = Status.finished
        record.metrics["best"] = {"bleu": 1.0, "chrf": 2.0, "loss": 3.0}
        write_record(record, folder)

    search(tmp_path, options, leave_scores, *keys)
    study = open_study(tmp_path, build_study_name(space(*keys), options), options)
    assert study.direction.name == expected
    assert [trial.value for trial in study.trials] == [{"loss": 3.0, "chrf": 2.0}[monitor]] * 2


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["hydra.sweeper.n_trials=0", "seed=1,2"], "hydra.sweeper.n_trials=0: expected a whole number at least 1"),
        (["hydra.sweeper.startup=0", "seed=1,2"], "hydra.sweeper.startup=0: expected "),
        (["hydra.sweeper.sampler=grid", "seed=1,2"], "hydra.sweeper.sampler=grid: "),
        (["model.depth=int(interval(-1,3))", "hydra.sweeper.startup=1"], "model.depth=-1: expected"),
    ],
)
def test_the_ends_of_a_search_are_checked_before_it_begins(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_plan(["hydra/sweeper=optuna", *overrides], is_multirun=True)
    assert str(caught.value).startswith(expected)


def test_a_pruned_run_is_over_for_searches_alone(tmp_path: Path, fakes: ModuleType) -> None:
    import remote_fakes

    told: list[str] = []
    assert supervise(remote_fakes.jobs(tmp_path, remote_fakes.prune, trial=0), 1, print_function=told.append) == [
        Outcome.pruned
    ]
    assert told[-1].startswith("[1/1] pruned after ")
    assert told[-1].endswith(f" s: seen enough ({tmp_path / '0'})"), "and no traceback"
    assert supervise(fakes.jobs(tmp_path, fakes.finish, trial=0), 1, print_function=told.append) == [Outcome.skipped]
    assert told[-1] == "[1/1] 0 seed=0: skipped: pruned"
    assert supervise(fakes.jobs(tmp_path, fakes.finish), 1, print_function=told.append) == [Outcome.finished]
