"""What a sweep will take: the numbers of runs are those that it then has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attnbench import plan
from attnbench.sweeps.plan import list_settings
from attnbench.sweeps.stages import count_later_runs

TUNE = "sweep.tune.params={optim.lr: [1e-3,2e-3]}"
BASELINE = "sweep.baseline={attention.score: dot}"
TINY = [
    "experiment=synthetic_translation", "model=toy", "model.depth=1", "data.train_pairs=100", "data.val_pairs=10",
    "data.test_pairs=10", "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1", "trainer.num_threads=1",
    "logger=none",
]  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=1,2,3"], 0),
        ([TUNE, "seed=1,2,3"], 2 * 2),  # seed 1 is that of the tuning run
        ([TUNE, "seed=range(2,5)"], 2 * 3),
        ([TUNE, "seed=1,2,3", 'sweep.tune.overrides=["trainer.max_steps=5"]'], 2 * 3),
        ([TUNE, "seed=1,2,3", "sweep.tune.extend=2"], 2 * 2 + 2 * 2),
        ([TUNE], 0),
        (["sweep.seeds=[3,10]", BASELINE], 2 * 7),
        ([TUNE, "sweep.seeds=[3,10]", BASELINE], 2 * 9),
    ],
)
def test_the_runs_of_later_stages_are_counted(overrides: list[str], expected: int) -> None:
    assert count_later_runs(*list_settings(["attention.score=dot,additive", *overrides])) == expected


def test_what_seeds_can_show_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(["attention.score=dot,additive,cosine", "seed=range(1,6)", "sweep.name=x", "--no-timing"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sweep x: 15 runs of 3 settings",
        "5 seeds find differences from 2.1 standard deviations of the difference on in 80 % of cases (2 comparisons"
        " with a baseline)",
    ]


def test_stages_and_left_out_combinations_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "model.num_heads=3,4",
        "model.d_model=64,96",
        "sweep.skip_invalid=true",
        "sweep.name=x",
        TUNE,
        "seed=1,2",
    ]
    assert plan.main([*command, "--no-timing"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sweep x: first stage: 6 runs of 3 settings",
        "later stages: at most 3 runs",
        "left out: 1 combination that cannot be built",
    ]


def test_a_wrong_sweep_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.main(["model.depth=0,1", "optim.lr=-1"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert [line.partition(": expected")[0] for line in found.err.splitlines()] == [
        "error: model.depth=0", "error: optim.lr=-1",
    ]  # fmt: skip


def test_time_and_disk_space_come_from_a_short_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan.main([*TINY, "seed=1,2,3", "sweep.name=x"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["sweep x: 3 runs of 1 setting", "finished: 0 runs"]
    assert re.fullmatch(r"time: \d+(\.\d)? (s|min) with sweep\.workers=1 \(1 setting timed\)", lines[2])
    assert re.fullmatch(r"disk: [1-9]\d* MB", lines[3])
    assert list(tmp_path.iterdir()) == [], "nothing stays"


def test_a_short_run_that_fails_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("")
    files = [f"data.{part}_{side}=a" for part in ("train", "val") for side in ("source", "target")]
    assert plan.main(["data=files", *files, "seed=1,2", "sweep.name=x"]) == 2
    assert "a: " in capsys.readouterr().err
