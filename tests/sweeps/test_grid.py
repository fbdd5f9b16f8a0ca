"""Grids: products, keys that change together, and combinations that cannot be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.records.record import PLAN_FILE, read_plan, write_record
from attnbench.reporting.tables import read_sweep_results
from attnbench.sweeps.compose import get_shared_composer
from attnbench.sweeps.grid import list_grid
from attnbench.sweeps.plan import build_plan

WIDTHS = ["model.d_model=32,64,128", "model.num_heads=2,4,8", "sweep.zip=[[model.d_model,model.num_heads]]"]


def grid(*overrides: str, zipped: list[list[str]] | None = None) -> list[list[str]]:
    parsed, faults = get_shared_composer().parse(overrides)
    assert not faults
    return list_grid(parsed, zipped or [])


def test_the_last_key_changes_fastest() -> None:
    assert grid("a=1,2", "b=x", "c=range(0,2)") == [
        ["a=1", "b=x", "c=0"], ["a=1", "b=x", "c=1"], ["a=2", "b=x", "c=0"], ["a=2", "b=x", "c=1"],
    ]  # fmt: skip
    assert grid("a=1,2", "a=3") == [["a=3"]], "the later override of a key counts"


def test_zipped_keys_change_together_and_are_multiplied_with_the_others() -> None:
    assert grid("a=1,2", "b=x,y", "c=7,8", zipped=[["a", "c"]]) == [
        ["a=1", "c=7", "b=x"], ["a=1", "c=7", "b=y"], ["a=2", "c=8", "b=x"], ["a=2", "c=8", "b=y"],
    ]  # fmt: skip


def test_a_zipped_sweep_has_one_setting_for_each_place() -> None:
    plan = build_plan([*WIDTHS, "seed=1,2", "sweep.name=x"], is_multirun=True)
    shapes = [(run.config["model"]["d_model"], run.config["model"]["num_heads"]) for run in plan.runs]
    assert shapes == [(32, 2), (32, 2), (64, 4), (64, 4), (128, 8), (128, 8)]


@pytest.mark.parametrize(
    ("zipped", "sentence"),
    [
        ("[[model.d_model,model.depth]]", "expected keys that are swept, and model.depth is not"),
        ("[[model.d_model,seed]]", "expected the same number of values for each key: model.d_model has 3, seed has 2"),
        ("[[model.d_model,model.num_heads],[model.d_model]]", "expected each key in one group: model.d_model"),
    ],
)
def test_keys_that_cannot_be_zipped_are_refused(zipped: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_plan([*WIDTHS[:2], "seed=1,2", f"sweep.zip={zipped}"], is_multirun=True)
    assert sentence in str(caught.value)


def test_combinations_that_cannot_be_built_are_left_out_and_listed(tmp_path: Path) -> None:
    command = ["model.num_heads=3,4", "model.d_model=64,96", "sweep.name=heads"]
    with pytest.raises(ConfigError, match=r"model.num_heads=3: expected a divisor of model.d_model=64"):
        build_plan(command, is_multirun=True)
    plan = build_plan([*command, "sweep.skip_invalid=true"], is_multirun=True)
    shapes = [(run.config["model"]["num_heads"], run.config["model"]["d_model"]) for run in plan.runs]
    assert shapes == [(3, 96), (4, 64), (4, 96)]
    (skipped,) = plan.skipped
    assert skipped.overrides[:2] == ["model.num_heads=3", "model.d_model=64"]
    write_record(plan, tmp_path / "heads")
    assert read_plan(tmp_path / "heads" / PLAN_FILE) == plan
    notes = read_sweep_results(tmp_path / "heads", tmp_path / "experiments").build_table().notes
    (note,) = [note for note in notes if note.startswith("Left out")]
    assert note.startswith("Left out: model.num_heads=3 model.d_model=64 ")
    assert "model.num_heads=3: expected a divisor of model.d_model=64" in note


def test_a_sweep_without_any_valid_combination_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sweep.skip_invalid=true: no combination can be built"):
        build_plan(["model.num_heads=3,5", "model.d_model=64", "sweep.skip_invalid=true"], is_multirun=True)
