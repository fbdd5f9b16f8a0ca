"""Sweeps that add seeds until their comparisons are decided."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.config.tracking import SweepConfig, TuneConfig
from attnbench.process.interrupts import Interrupted
from attnbench.records.lifecycle import create_record
from attnbench.records.record import PLAN_FILE, Plan, SkippedCombination, Status, read_plan, write_record
from attnbench.reporting.tables import read_sweep_results
from attnbench.sweeps.plan import build_plan
from attnbench.sweeps.stages import StagedSweep
from attnbench.sweeps.tuning import split_settings

from .test_tuning import compose

SCORES = {"dot": 0.0, "additive": 30.0, "cosine": 0.0}  # true difference from dot; a difference has a deviation of 1
OPTIONS = SweepConfig(seeds=[3, 5, 10], baseline={"attention.score": "dot"})
COMMAND = ["attention.score=dot,additive,cosine", "sweep.name=seeds", "logger=none", "sweep.seeds=[3,5,10]"]
BASELINE = "sweep.baseline={attention.score: dot}"


class Sweep:
    """A sweep whose runs finish at once; their test metric has noise that depends on score and seed."""

    def __init__(self, folder: Path, options: SweepConfig = OPTIONS) -> None:
        self.folder, self.options = folder, options
        self.launched: list[str] = []
        self.stop_after: int | None = None

    def launch(self, jobs: list[list[str]], first: int) -> None:
        for overrides in jobs:
            if self.stop_after is not None and len(self.launched) >= self.stop_after:
                raise Interrupted(15)
            config = compose(overrides)
            record = create_record(config, overrides)
            self.launched.append(record.run_id)
            score = config.attention.score.name
            value = 30 + SCORES[score] + random.Random(f"{score} {config.seed}").gauss(0, 0.7)
            value -= abs(config.optim.lr - 0.002) * 1000
            record.metrics |= {"best": {"bleu": value}, "test": {"bleu": value}}
            record.status = Status.finished
            write_record(record, self.folder / record.run_id)

    def run(self) -> Plan:
        write_record(build_plan([*COMMAND, BASELINE], is_multirun=True), self.folder)
        shared = ["sweep.name=seeds", "logger=none", "sweep.seeds=[3,5,10]", BASELINE]
        settings = split_settings([[f"attention.score={score}", *shared] for score in SCORES])
        StagedSweep(self.folder, settings, self.options, compose=compose, launch=self.launch).run()
        return read_plan(self.folder / PLAN_FILE)


def count_seeds(plan: Plan) -> dict[str, int]:
    scores = [run.config["attention"]["score"] for run in plan.runs if not run.is_tuning]
    return {score: scores.count(score) for score in dict.fromkeys(scores)}


def test_a_decided_comparison_gets_no_more_seeds(tmp_path: Path) -> None:
    plan = Sweep(tmp_path).run()
    assert count_seeds(plan) == {"dot": 10, "additive": 3, "cosine": 10}
    assert plan.sequential is not None
    assert (plan.sequential.metric, plan.sequential.looks) == ("metrics.test.bleu", [3, 5, 10])
    additive, cosine = plan.sequential.comparisons
    assert (additive.is_decided, additive.num_seeds, cosine.is_decided, cosine.num_seeds) == (True, 3, False, 10)
    assert additive.p is not None
    assert cosine.p is not None
    assert additive.p < 0.05 < cosine.p


@pytest.mark.parametrize("stop_after", [0, 4, 9, 12, 20])
def test_the_same_command_after_a_signal_ends_like_an_undisturbed_one(tmp_path: Path, stop_after: int) -> None:
    undisturbed = Sweep(tmp_path / "a").run()
    sweep = Sweep(tmp_path / "b")
    sweep.stop_after = stop_after
    with pytest.raises(Interrupted):
        sweep.run()
    sweep.stop_after = None
    assert sweep.run() == undisturbed
    assert len(sweep.launched) == len(set(sweep.launched)) == 23


def test_seeds_follow_the_choice_of_a_tuned_sweep(tmp_path: Path) -> None:
    tune = TuneConfig(params={"optim.lr": [0.001, 0.002]})
    sweep = Sweep(tmp_path, SweepConfig(seeds=[3, 5, 10], baseline={"attention.score": "dot"}, tune=tune))
    plan = sweep.run()
    assert count_seeds(plan) == {"dot": 10, "additive": 3, "cosine": 10}
    assert plan.tuning is not None
    assert [setting.chosen for setting in plan.tuning.settings] == [{"optim.lr": 0.002}] * 3
    assert len(sweep.launched) == 3 * 2 + 9 + 2 + 9, "seed 1 of the chosen candidate is used again"


def test_the_table_has_the_same_decisions_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "seeds"
    plan = Sweep(folder).run()
    table = read_sweep_results(folder, tmp_path / "experiments").build_table()
    assert plan.sequential is not None
    additive, cosine = table.notes[:2]
    assert additive.startswith("additive is better than dot by ")
    assert f"n=3, p={plan.sequential.comparisons[0].p:.2g} after Holm)." in additive
    assert cosine.startswith("Cannot tell whether cosine differs from dot")
    assert f"n=10, p={plan.sequential.comparisons[1].p:.2g} after Holm)." in cosine
    (note,) = [note for note in table.notes if note.startswith("Seeds were added")]
    assert "looks after 3, 5, 10 seeds" in note
    assert "Pocock 1977" in note


def test_stages_keep_what_was_left_out(tmp_path: Path) -> None:
    sweep, skipped = Sweep(tmp_path), SkippedCombination(["model.num_heads=3"], "no divisor")
    sweep.run()
    plan = read_plan(tmp_path / PLAN_FILE)
    write_record(replace(plan, skipped=[skipped]), tmp_path)
    settings = split_settings([[f"attention.score={score}", *COMMAND[1:], BASELINE] for score in SCORES])
    StagedSweep(tmp_path, settings, OPTIONS, compose=compose, launch=sweep.launch).run()
    assert read_plan(tmp_path / PLAN_FILE).skipped == [skipped]


def test_auto_has_four_looks_and_the_plan_has_the_first() -> None:
    assert SweepConfig(seeds="auto").looks == (3, 5, 10, 20)
    command = ["attention.score=dot,additive", "sweep.seeds=auto", BASELINE]
    plan = build_plan(command, is_multirun=True)
    assert [run.config["seed"] for run in plan.runs] == [1, 2, 3, 1, 2, 3]
    assert not any(run.is_tuning for run in plan.runs)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sweep.seeds=auto"], "sweep.seeds=auto: expected sweep.baseline too"),
        (["sweep.seeds=[5,3]", BASELINE], "expected auto, or a list of increasing numbers from 2 to 1000"),
        (["sweep.seeds=3", BASELINE], "expected auto, or a list"),
        (["sweep.seeds=[1]", BASELINE], "expected auto, or a list"),
        (["sweep.seeds=auto", BASELINE, "seed=1,2"], "chooses the seeds: leave seed out of the command"),
        (["sweep.seeds=auto", "sweep.baseline={attention.score: cosine}"], "0 of 2 have them"),
        (["sweep.seeds=auto", "sweep.baseline={model.depth: 2}"], "2 of 2 have them"),
        (["sweep.seeds=auto", "sweep.baseline=dot"], "expected keys with values, as in {attention.score: dot}"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_plan(["attention.score=dot,additive", *overrides], is_multirun=True)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["hydra/sweeper=optuna", "sweep.tune.params={model.depth: [1,2]}"],
            "sweep.tune.params: expected hydra/sweeper=",
        ),
        (["hydra/sweeper=optuna", "sweep.seeds=auto", BASELINE], "sweep.seeds: expected hydra/sweeper="),
        (["hydra/sweeper=random", "sweep.zip=[[optim.lr,attention.score]]"], "sweep.zip: expected hydra/sweeper=grid"),
    ],
)
def test_a_search_that_has_no_stages_is_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_plan(["attention.score=dot,additive", "optim.lr=interval(1e-4,1e-2)", *overrides], is_multirun=True)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "option", ["sweep.tune.seeds=[1]", "sweep.seeds=auto", "sweep.zip=[]", "sweep.skip_invalid=true"]
)
def test_a_single_run_has_no_options_of_sweeps(option: str) -> None:
    with pytest.raises(ConfigError, match="only allowed in a sweep: add -m"):
        build_plan(["attention.score=dot", option, BASELINE], is_multirun=False)


def test_one_setting_has_nothing_to_compare() -> None:
    with pytest.raises(ConfigError, match="expected at least two settings to compare"):
        build_plan(["attention.score=dot", "sweep.seeds=auto", BASELINE], is_multirun=True)


TINY = [
    "experiment=synthetic_translation", "model=toy", "data.train_pairs=100", "data.val_pairs=10", "data.test_pairs=10",
    "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.num_threads=1", "logger=none",
    "callbacks=quiet", "model.depth=1", "attention.score=dot,additive", BASELINE, "sweep.seeds=[2]",
    "sweep.tune.params={optim.lr: [1e-3,1e-2]}", "sweep.name=stages",
]  # fmt: skip


@pytest.mark.parametrize("launcher", ["attnbench", "basic", "submitit_local", "ray"])
def test_every_launcher_runs_all_stages(launcher: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "attnbench", "train", "-m", *TINY, f"hydra/launcher={launcher}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=170)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "after 2 seeds: " in done.stdout
    plan = read_plan(tmp_path / "multirun" / "stages" / PLAN_FILE)
    assert [run.is_tuning for run in plan.runs].count(False) == 4
    assert len(plan.runs) == 2 * 2 + 2
    assert plan.tuning is not None
    assert all(setting.chosen for setting in plan.tuning.settings)
    assert all((tmp_path / "multirun" / "stages" / run.run_id / "model.ckpt").is_file() for run in plan.runs)
