from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from attnbench.records.record import Plan, Record, Status
from attnbench.reporting.cells import Cell, build_cell, format_number
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import collect_runs

MakeRecord = Callable[..., Record]
BLEU = Column("metrics.test.bleu")


def cell_of(records: list[Record], column: Column = BLEU, plan: Plan | None = None) -> Cell:
    return build_cell(collect_runs(records, plan), column)


def test_a_mean_comes_with_its_spread_and_n(make_record: MakeRecord) -> None:
    records = [make_record({}, seed=seed, bleu=bleu) for seed, bleu in ((1, 30.0), (2, 31.0), (3, 35.0))]
    cell = cell_of(records)
    assert (cell.value, cell.spread, cell.missing) == ("32.00", "± 2.65 (n=3)", "")
    assert set(cell.run_ids) == {record.run_id for record in records}


def test_one_seed_says_so(make_record: MakeRecord) -> None:
    cell = cell_of([make_record({})])
    assert (cell.value, cell.spread) == ("30.00", "(n=1)")


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.finished])
def test_a_run_without_result_says_why(make_record: MakeRecord, status: Status) -> None:
    lost = make_record({}, seed=3, status=status)
    assert cell_of([lost]).value == status.name
    cell = cell_of([make_record({}, seed=1), make_record({}, seed=2, bleu=32.0), lost])
    assert (cell.value, cell.spread, cell.missing) == ("31.00", "± 1.41 (2/3 seeds)", f"1 {status.name}")
    assert lost.run_id not in cell.run_ids


def test_a_failure_says_of_what_kind_it_was(make_record: MakeRecord) -> None:
    lost = [
        make_record({}, seed=seed, status=Status.failed, error={"kind": kind, "type": "", "message": ""})
        for seed, kind in ((1, "diverged"), (2, "diverged"), (3, "raised"))
    ]
    assert cell_of(lost[:2]).value == "diverged"
    assert cell_of([*lost, make_record({}, seed=4)]).missing == "2 diverged, 1 failed"


@pytest.mark.parametrize("deleted", [0, 1, 2])
def test_deleting_any_record_leaves_a_reason(
    make_record: MakeRecord, make_plan: Callable[[list[Record]], Plan], deleted: int
) -> None:
    records = [make_record({}, seed=seed) for seed in (1, 2, 3)]
    plan = make_plan(records)
    cell = cell_of(records[:deleted] + records[deleted + 1 :], plan=plan)
    assert (cell.spread, cell.missing) == ("± 0.00 (2/3 seeds)", "1 not run")
    assert cell_of([], plan=plan).value == "not run"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_not_averaged(make_record: MakeRecord, value: float) -> None:
    assert cell_of([make_record({}, bleu=value)]).value == "not finite"
    cell = cell_of([make_record({}, seed=1), make_record({}, seed=2, bleu=value)])
    assert (cell.value, cell.spread, cell.missing) == ("30.00", "(1/2 seeds)", "1 not finite")


def test_several_reasons_are_all_told(make_record: MakeRecord) -> None:
    failed = [make_record({}, seed=seed, status=Status.failed) for seed in (1, 2)]
    assert cell_of([*failed, make_record({}, seed=3, bleu=None)]).value == "2 failed, 1 no value"


def test_a_count_that_is_the_same_for_all_needs_no_spread(make_record: MakeRecord) -> None:
    records = [make_record({}, seed=seed) for seed in (1, 2)]
    cell = cell_of(records, Column("parameters.total"))
    assert (cell.value, cell.spread) == ("1,234,567", "")
    records[1].parameters = {"total": 1234569}
    cell = cell_of(records, Column("parameters.total"))
    assert (cell.value, cell.spread) == ("1,234,568.00", "± 1.41 (n=2)")


def test_words_are_shown_as_they_are(make_record: MakeRecord) -> None:
    records = [make_record({"model.norm_placement": "pre"}, seed=seed) for seed in (1, 2)]
    assert cell_of(records, Column("config.model.norm_placement")).value == "pre"


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (65_432_100, Column("k", scale=1e-6, digits=1), "65.4"),
        (9123.6, Column("k", digits=0), "9,124"),
        (1234567, Column("k"), "1,234,567"),
        (4.0, Column("k"), "4.00"),
        (1e304, Column("k", digits=2), "1.00e+304"),
    ],
)
def test_numbers_are_written_as_the_column_says(value: float, column: Column, text: str) -> None:
    assert format_number(value, column) == text


@pytest.mark.parametrize(
    ("losses", "told"), [([2.0], "(n=1)"), ([4.0], "(n=1, diverged)"), ([2.0, 4.0, 5.0], "± 1.53 (n=3, 2 diverged)")]
)
def test_a_value_above_what_it_should_stay_under_is_told(
    make_record: MakeRecord, losses: list[float], told: str
) -> None:
    column = Column("metrics.test.loss", above="metrics.test.yardsticks.unigram_loss")
    records = [make_record({}, seed=seed) for seed, _ in enumerate(losses)]
    for record, loss in zip(records, losses, strict=True):
        record.metrics["test"] |= {"loss": loss, "yardsticks": {"unigram_loss": 3.5}}
    assert cell_of(records, column).spread == told
