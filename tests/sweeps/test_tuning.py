"""Tuned sweeps: which runs they have, which candidate they choose, and that the same command ends the same way."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.config import Config, ConfigError
from attnbench.config.tracking import SweepConfig, TuneConfig
from attnbench.process.interrupts import Interrupted
from attnbench.records.identity import compute_run_id
from attnbench.records.lifecycle import build_exception_error, create_record, load_previous_record, write_final_status
from attnbench.records.record import PLAN_FILE, Plan, Status, read_plan, write_record
from attnbench.reporting.layout import Layout, Paper
from attnbench.reporting.runs import load_records
from attnbench.reporting.tables import read_sweep_results
from attnbench.sweeps.compose import Composer
from attnbench.sweeps.plan import build_plan
from attnbench.sweeps.stages import StagedSweep
from attnbench.sweeps.tuning import Setting, build_final_overrides, extend_grid, split_settings

COMMAND = ["attention.score=dot,additive", "seed=1,2,3", "sweep.name=tuned", "logger=none"]
PARAMS = "sweep.tune.params={optim.lr: [1e-3,2e-3,4e-3]}"
COMBINATIONS = [
    [f"attention.score={score}", f"seed={seed}", "sweep.name=tuned", "logger=none"]
    for score in ("dot", "additive")
    for seed in (1, 2, 3)
]
TUNE = TuneConfig(params={"optim.lr": [0.001, 0.002, 0.004]})
Quality = Callable[[Config], float]


@functools.cache
def composer() -> Composer:
    return Composer()


def compose(overrides: list[str]) -> Config:
    config, faults = composer().compose(composer().parse(overrides)[0])
    if config is None:
        raise ConfigError(faults)
    return config


def peak_at(**best: float) -> Quality:
    """Return a quality that is highest at one learning rate for each score."""
    return lambda config: 50 - abs(math.log2(config.optim.lr / best[config.attention.score.name])) + config.seed / 100


class Sweep:
    """A tuned sweep whose runs finish at once with a given quality; it counts what was launched."""

    def __init__(self, folder: Path, quality: Quality, tune: TuneConfig = TUNE) -> None:
        self.folder, self.quality, self.tune = folder, quality, tune
        self.launched: list[str] = []
        self.stop_after: int | None = None  # number of runs after which a signal comes
        self.failing: set[str] = set()  # learning rates whose runs diverge

    def launch(self, jobs: list[list[str]], first: int) -> None:
        for overrides in jobs:
            if self.stop_after is not None and len(self.launched) >= self.stop_after:
                raise Interrupted(15)
            config = compose(overrides)
            record = create_record(config, overrides)
            self.launched.append(record.run_id)
            folder = self.folder / record.run_id
            if str(config.optim.lr) in self.failing:
                write_final_status(record, folder, Status.failed, build_exception_error(FloatingPointError("NaN")))
                continue
            value = self.quality(config)
            record.metrics |= {"best": {"bleu": value}, "test": {"bleu": value - 1}}
            record.status = Status.finished
            write_record(record, folder)

    def run(self) -> Plan:
        command = build_plan([*COMMAND, PARAMS], is_multirun=True)
        write_record(command, self.folder)
        settings = split_settings(COMBINATIONS)
        StagedSweep(self.folder, settings, SweepConfig(tune=self.tune), compose=compose, launch=self.launch).run()
        return read_plan(self.folder / PLAN_FILE)


def chosen(plan: Plan) -> list[dict[str, Any] | None]:
    assert plan.tuning is not None
    return [setting.chosen for setting in plan.tuning.settings]


def test_settings_are_the_combinations_without_the_seed() -> None:
    first, second = split_settings(COMBINATIONS)
    assert first == Setting(["attention.score=dot", "sweep.name=tuned", "logger=none"], ["seed=1", "seed=2", "seed=3"])
    assert second.overrides[0] == "attention.score=additive"
    assert build_final_overrides(Setting(["a=1"], []), {"optim.lr": 0.1}) == [["a=1", "optim.lr=0.1"]]


@pytest.mark.parametrize(
    ("grid", "end", "expected"),
    [
        ([0.001, 0.002, 0.004], 0.004, 0.008), ([0.001, 0.002, 0.004], 0.001, 0.0005), ([2, 4], 4, 8), ([2, 4], 2, 1),
        ([0.0, 0.1, 0.2], 0.2, 0.4), ([0.0, 0.1], 0.0, -0.1), ([1e-3, 3e-3], 3e-3, 9e-3),
    ],
)  # fmt: skip
def test_a_grid_goes_on_as_its_last_two_numbers(grid: list[float], end: float, expected: float) -> None:
    assert extend_grid(grid, end) == pytest.approx(expected)


def test_each_setting_gets_its_own_best_candidate_and_then_all_seeds(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, peak_at(dot=0.002, additive=0.004))
    plan = sweep.run()
    assert chosen(plan) == [{"optim.lr": 0.002}, {"optim.lr": 0.004}]
    assert len(sweep.launched) == len(set(sweep.launched)) == 2 * 3 + 2 * 2, "seed 1 of the chosen is not run again"
    assert [run.is_tuning for run in plan.runs].count(False) == 6
    assert plan.tuning is not None
    assert [setting.edge_keys for setting in plan.tuning.settings] == [[], ["optim.lr"]]
    for setting, lr in zip(plan.tuning.settings, (0.002, 0.004), strict=True):
        configs = [run.config for run in plan.runs if run.run_id in setting.run_ids]
        assert {config["optim"]["lr"] for config in configs} == {lr}
        assert sorted(config["seed"] for config in configs) == [1, 2, 3]


@pytest.mark.parametrize("stop_after", [0, 1, 5, 6, 7, 9])
def test_the_same_command_after_a_signal_ends_like_an_undisturbed_one(tmp_path: Path, stop_after: int) -> None:
    undisturbed = Sweep(tmp_path / "a", peak_at(dot=0.002, additive=0.004)).run()
    sweep = Sweep(tmp_path / "b", peak_at(dot=0.002, additive=0.004))
    sweep.stop_after = stop_after
    with pytest.raises(Interrupted):
        sweep.run()
    sweep.stop_after = None
    assert sweep.run() == undisturbed
    assert len(sweep.launched) == len(set(sweep.launched))
    before = list(sweep.launched)
    assert sweep.run() == undisturbed
    assert sweep.launched == before, "a finished sweep runs nothing"


def test_a_candidate_that_diverges_is_not_chosen(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, peak_at(dot=0.004, additive=0.004))
    sweep.failing = {"0.004"}
    assert chosen(sweep.run()) == [{"optim.lr": 0.002}] * 2


def test_a_setting_whose_candidates_all_diverge_gets_no_further_runs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, peak_at(dot=0.004, additive=0.004))
    sweep.failing = {"0.001", "0.002", "0.004"}
    plan = sweep.run()
    assert chosen(plan) == [None, None]
    assert all(run.is_tuning for run in plan.runs)


def test_the_grid_is_extended_where_the_best_is_at_its_edge(tmp_path: Path) -> None:
    tune = TuneConfig(params=TUNE.params, extend=3)
    sweep = Sweep(tmp_path, peak_at(dot=0.002, additive=0.008), tune)
    plan = sweep.run()
    assert chosen(plan) == [{"optim.lr": 0.002}, {"optim.lr": 0.008}]
    assert plan.tuning is not None
    tried = [[one.values["optim.lr"] for one in setting.candidates] for setting in plan.tuning.settings]
    assert tried == [[0.001, 0.002, 0.004], [0.001, 0.002, 0.004, 0.008, 0.016]]
    assert [setting.edge_keys for setting in plan.tuning.settings] == [[], []]


def test_tuning_runs_may_have_other_seeds_and_a_smaller_budget(tmp_path: Path) -> None:
    tune = TuneConfig(params=TUNE.params, seeds=[7, 8], overrides=["trainer.max_steps=10"])
    sweep = Sweep(tmp_path, peak_at(dot=0.002, additive=0.004), tune)
    plan = sweep.run()
    tuning, final = ([run for run in plan.runs if run.is_tuning is is_tuning] for is_tuning in (True, False))
    assert {(run.config["seed"], run.config["trainer"]["max_steps"]) for run in tuning} == {(7, 10), (8, 10)}
    assert (len(tuning), len(final), len(sweep.launched)) == (12, 6, 18)


def test_of_losses_the_smallest_is_chosen(tmp_path: Path) -> None:
    monitored = [*COMMAND, "task.monitor=loss"]
    plan = build_plan([*monitored, PARAMS], is_multirun=True)
    write_record(plan, tmp_path)

    def launch(jobs: list[list[str]], first: int) -> None:
        for overrides in jobs:
            config = compose(overrides)
            record = create_record(config, overrides)
            record.metrics |= {"best": {"loss": abs(config.optim.lr - 0.002), "bleu": config.optim.lr}}
            record.status = Status.finished
            write_record(record, tmp_path / record.run_id)

    settings = split_settings([[*one, "task.monitor=loss"] for one in COMBINATIONS])
    StagedSweep(tmp_path, settings, SweepConfig(tune=TUNE), compose=compose, launch=launch).run()
    assert chosen(read_plan(tmp_path / PLAN_FILE)) == [{"optim.lr": 0.002}] * 2


def test_the_plan_has_all_tuning_runs_before_the_first_starts() -> None:
    plan = build_plan([*COMMAND, PARAMS, "sweep.tune.seeds=[1,2]"], is_multirun=True)
    assert len(plan.runs) == 2 * 3 * 2
    assert all(run.is_tuning for run in plan.runs)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        (
            "sweep.tune.params={optim.lr: 1e-3}",
            "sweep.tune.params.optim.lr=0.001: expected a list of candidates for each key",
        ),
        ("sweep.tune.params=[1,2]", "sweep.tune.params=[1,2]: expected a list of candidates for each key"),
        ("sweep.tune.params={seed: [1,2]}", "expected keys other than the seed"),
        ("sweep.tune.params={attention.score: [dot]}", "attention.score is set or swept in the same command"),
        ("sweep.tune.params={optim.lr: [1e-3,-1]}", "optim.lr=-1: expected a number above 0"),
        ("sweep.tune.params={optim.rate: [1]}", "optim.rate=1: no such key"),
        ("sweep.tune.seeds=[]", "sweep.tune.seeds=[]: expected at least one seed"),
        ('sweep.tune.overrides=["model.depth=0"]', "model.depth=0: expected a number at least 1"),
    ],
)
def test_what_cannot_be_tuned_is_refused_before_the_first_run(override: str, sentence: str) -> None:
    params = [] if "params" in override else [PARAMS]
    with pytest.raises(ConfigError) as caught:
        build_plan([*COMMAND, *params, override], is_multirun=True)
    assert sentence in str(caught.value)


def test_the_table_shows_the_choice_and_only_the_final_runs(tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    Sweep(folder, peak_at(dot=0.002, additive=0.004)).run()
    table = read_sweep_results(folder, tmp_path / "experiments").build_table()
    assert [key.label or key.key for key in table.keys] == ["attention.score", "optim.lr (tuned)"]
    assert [row.labels for row in table.rows] == [("additive", "0.004 (edge)"), ("dot", "0.002")]
    assert [row.cells[0].summary.n for row in table.rows if row.cells[0].summary] == [3, 3]
    assert (
        "Tuned: each row has the candidate with the best validation bleu over seed 1 (6 tuning runs). Candidates:"
        " optim.lr: 0.001, 0.002, 0.004. The test set was not used to choose."
    ) in table.notes
    assert any(note.startswith("(edge)") for note in table.notes)
    (figure,) = table.figures
    assert figure.layout.name == "tuning"
    assert [line.label for line in figure.lines] == ["additive", "dot"]
    assert [[point.x for point in line.points] for line in figure.lines] == [[0.001, 0.002, 0.004]] * 2


def test_rows_with_other_tuned_values_are_compared_with_the_baseline(tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    Sweep(folder, peak_at(dot=0.002, additive=0.004)).run()
    results = read_sweep_results(folder, tmp_path / "experiments")
    records, _ = load_records(folder)
    assert len(records) == 10
    layout = Layout(baseline={"attention.score": "dot"})
    table = type(results)(folder, records, results.plan, layout, Paper(), "table.yaml", []).build_table()
    assert [row.labels[0] for row in table.rows] == ["additive", "dot"]
    assert not any(note.startswith("Nothing is compared") for note in table.notes)


def test_identity_does_not_depend_on_tuning() -> None:
    assert compute_run_id(compose(["optim.lr=0.002", PARAMS])) == compute_run_id(compose(["optim.lr=0.002"]))


def test_a_second_command_reads_what_the_first_has_written(tmp_path: Path) -> None:
    first = Sweep(tmp_path, peak_at(dot=0.002, additive=0.004))
    first.run()
    second = Sweep(tmp_path, peak_at(dot=0.001, additive=0.001))
    assert chosen(second.run()) == [{"optim.lr": 0.002}, {"optim.lr": 0.004}]
    assert second.launched == []
    assert all(load_previous_record(tmp_path / run_id) for run_id in first.launched)
