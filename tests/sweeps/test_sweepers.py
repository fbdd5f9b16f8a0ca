"""Searches: what they draw, that the plan and Hydra agree on it, and what is refused beforehand."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.records.record import RECORD_FILE, Status, read_plan, read_record
from attnbench.sweeps.compose import Composer
from attnbench.sweeps.plan import build_plan
from attnbench.sweeps.search_space import SearchSpace

DOOR = Path(__file__).parent / "sweep_command.py"
SEARCH = ["hydra/sweeper=random", "hydra.sweeper.n_trials=5"]


def space(*overrides: str) -> SearchSpace:
    parsed, faults = Composer().parse(overrides)
    assert not faults
    return SearchSpace(parsed)


def drawn(override: str, count: int) -> list[str]:
    return [values["k"] for values in space(override).draw_values(count, 1)]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("k=a,b", {"a", "b"}),
        ("k=choice(1.5,true)", {"1.5", "True"}),
        ("k=range(1,8,3)", {"1", "4", "7"}),
        ("k=range(8,1,-3)", {"2", "5", "8"}),
        ("k=int(interval(1,3))", {"1", "2", "3"}),
    ],
)
def test_each_value_is_as_likely_as_another(override: str, expected: set[str]) -> None:
    counts = Counter(drawn(override, 600))
    assert set(counts) == expected
    assert min(counts.values()) > 0.7 * 600 / len(expected)


def test_an_interval_is_drawn_evenly_or_by_its_logarithm_and_shown_as_it_is_run() -> None:
    even = [float(text) for text in drawn("k=interval(0,1)", 400)]
    log = [float(text) for text in drawn("k=tag(log,interval(1e-4,1e-2))", 400)]
    assert 0.4 < sum(value < 0.5 for value in even) / 400 < 0.6
    assert 0.4 < sum(value < 1e-3 for value in log) / 400 < 0.6
    assert min(log) >= 1e-4
    assert max(log) <= 1e-2
    assert all(float(f"{value:.4g}") == value for value in (*even, *log))
    assert drawn("k=interval(1.23456,1.23456)", 1) == ["1.23456"]


def test_more_draws_begin_with_the_same_and_the_command_wins() -> None:
    one = space("optim.lr=interval(1,2)", "seed=1,2", "model.depth=2", "optim.lr=interval(3,4)")
    assert one.draw_values(3, 7) == one.draw_values(9, 7)[:3] != one.draw_values(3, 8)
    assert 3 <= float(one.draw_values(1, 7)[0]["optim.lr"]) <= 4
    assert one.build_overrides({"optim.lr": "3.5", "seed": "2"}) == ["optim.lr=3.5", "seed=2", "model.depth=2"]
    assert one.fixed_overrides == ["model.depth=2"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optim.lr=interval(-1,-0.5)"], "optim.lr=-0."),
        (["optim.lr=tag(log,interval(0,1))"], "optim.lr=tag(log,interval(0,1)): expected numbers above 0: it is drawn"),
        (["hydra.sweeper.n_trials=many", "seed=1,2"], "hydra.sweeper.n_trials=many: "),
    ],
)
def test_a_search_is_refused_before_it_begins(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_plan([*SEARCH, *overrides], is_multirun=True)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("text", "command", "who"),
    [
        ("defaults:\n  - override /hydra/launcher: slurm\n", ["experiment=mine"], "experiment/mine"),
        ("hydra:\n  sweeper:\n    params:\n      seed: 1,2\n", ["experiment=tiny,mine"], "a swept choice"),
    ],
)
def test_a_launcher_that_a_file_brings_in_vain_is_refused(
    text: str, command: list[str], who: str, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    (tmp_path / "experiment" / "tiny.yaml").write_text("# @package _global_\nname: tiny\n")
    with pytest.raises(ConfigError, match=f"{who} brings another one, which would not be used: give it on the command"):
        build_plan([*command, "sweep.name=x"], is_multirun=True, config_dir=str(tmp_path))


def test_a_random_search_from_plan_to_table(tmp_path: Path) -> None:
    command = [sys.executable, str(DOOR), "-m", *SEARCH, "optim.lr=tag(log,interval(1e-4,1e-2))", "sweep.name=small"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "multirun" / "small"
    plan = read_plan(folder / "plan.json")
    assert len({run.config["optim"]["lr"] for run in plan.runs}) == 5
    assert [read_record(folder / run.run_id / RECORD_FILE).status for run in plan.runs] == [Status.finished] * 5
    assert len(list(folder.glob(f"*/{RECORD_FILE}"))) == 5, "Hydra ran what was planned"
