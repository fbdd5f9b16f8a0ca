from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attnbench.records.record import Plan, Record, RecordError, Status
from attnbench.reporting.aggregation import PublishedValue, Table, build_table
from attnbench.reporting.keys import Best, RowKey
from attnbench.reporting.layout import Column, Layout, Paper, Publication, PublishedNumbers

MakeRecord = Callable[..., Record]
DEPTH = RowKey("model.depth", "layers")


def table_of(records: list[Record], layout: Layout | None = None, paper: Paper | None = None, **options: Any) -> Table:
    return build_table(
        records, options.pop("plan", None), layout or Layout(), paper or Paper(), title="demo", **options
    )


def values_of(table: Table) -> list[list[str]]:
    return [[*row.labels, *(cell.value for cell in row.cells)] for row in table.rows]


def test_without_layout_rows_are_what_differs_and_columns_what_was_measured(make_record: MakeRecord) -> None:
    test = {"bleu": 30.0, "bleu_signature": "nrefs:1", "loss": 1.5}
    records = [
        make_record({"model.depth": depth, "model.tie_embeddings": None}, seed=seed, metrics={"test": test})
        for depth in (2, 4)
        for seed in (1, 2)
    ]
    table = table_of(records)
    assert [key.key for key in table.keys] == ["model.depth"]
    assert [column.heading for column in table.columns] == [
        "bleu",
        "loss",
        "parameters",
        "target tokens (/s)",
    ]
    assert values_of(table) == [
        ["2", "30.00", "1.50", "1,234,567", "9,000"],
        ["4", "30.00", "1.50", "1,234,567", "9,000"],
    ]
    assert "bleu: sacreBLEU nrefs:1." in table.notes


def test_planned_runs_have_rows(make_record: MakeRecord, make_plan: Callable[[list[Record]], Plan]) -> None:
    records = [make_record({"model.depth": depth}) for depth in (2, 4)]
    table = table_of(records[:1], plan=make_plan(records))
    assert values_of(table)[1] == ["4", "not run", "not run", "not run"]
    assert "1 of 2 runs are not included: 1 not run." in table.notes


def test_nothing_finished_still_has_a_table(make_record: MakeRecord) -> None:
    records = [make_record({"model.depth": depth}, status=Status.failed) for depth in (2, 4)]
    assert values_of(table_of(records)) == [["2", "failed"], ["4", "failed"]]


@pytest.mark.parametrize(
    ("best", "bleus", "bold"),
    [
        (Best.max, [30.0, 31.0, 29.0], [False, True, False]),
        (Best.min, [30.0, 31.0, 29.0], [False, False, True]),
        (Best.max, [31.001, 31.0, 29.0], [True, True, False]),  # these print the same
        (Best.max, [31.0, 31.0, 31.0], [False, False, False]),
        (Best.max, [float("nan"), 3.0, 2.0], [False, True, False]),
        (Best.max, [9.0, 10.0, 2.0], [False, True, False]),  # by size, not by spelling
        (None, [30.0, 31.0, 29.0], [False, False, False]),
    ],
)
def test_the_best_mean_is_bold(
    make_record: MakeRecord, best: Best | None, bleus: list[float], bold: list[bool]
) -> None:
    records = [make_record({"model.depth": depth}, bleu=bleu) for depth, bleu in enumerate(bleus)]
    table = table_of(records, Layout(rows=[DEPTH], columns=[Column("metrics.test.bleu", best=best)]))
    assert [row.cells[0].best for row in table.rows] == bold
    assert any(note.startswith("Bold") for note in table.notes) is any(bold)


def test_published_numbers_stand_beside_the_rows_they_belong_to(make_record: MakeRecord) -> None:
    records = [make_record({"model.depth": depth}) for depth in (2, 4)]
    paper = Paper(
        sources={
            "unused": Publication("U.", "u"),
            "x": Publication("X 2017, Table 1.", "more data"),
            "y": Publication("Y.", "z", comparable=False),
        },
        numbers=[
            PublishedNumbers("y", {"model.depth": 4}, {"metrics.test.bleu": 27.0}),
            PublishedNumbers("x", {"model.depth": 4}, {"metrics.test.bleu": 26.4, "metrics.test.loss": 1.0}),
            PublishedNumbers("x", {"model.depth": 6}, {"metrics.test.bleu": 27.3}),
        ],
    )
    columns = [Column("metrics.test.bleu"), Column("parameters.total")]
    table = table_of(records, Layout(rows=[DEPTH], columns=columns), paper)
    assert [row.published[0] for row in table.rows] == [
        (),
        (PublishedValue("b", 27.0, None), PublishedValue("a", 26.4, 30.0 - 26.4)),
    ]
    assert (table.has_difference(0), table.has_difference(1)) == (True, False)
    assert (table.has_published(0), table.has_published(1)) == (True, False)
    assert table.marks == (
        ("a", "X 2017, Table 1. Not the same experiment: more data"),
        ("b", "Y. Not the same data: z"),
    )


def test_what_a_reader_must_know_is_noted(make_record: MakeRecord) -> None:
    records = [
        make_record({}, seed=1, notes=["val stands in for test"], provenance={"git": {"commit": "aaa"}}),
        make_record({}, seed=2, notes=["val stands in for test", "2 pairs dropped"], provenance={"git": None}),
    ]
    table = table_of(records, problems=["x/run.json: not valid JSON"])
    assert table.notes == (
        "Mean ± sample standard deviation over seeds.",
        "The runs come from 2 commits of the code: aaa, unknown.",
        "2 pairs dropped (1 of 2 runs)",
        "val stands in for test",
        "x/run.json: not valid JSON",
    )


def test_a_filter_that_leaves_nothing_is_told(make_record: MakeRecord) -> None:
    with pytest.raises(RecordError, match=r"there: no run matches `where`: \{'model.depth': 3\}"):
        table_of([make_record({"model.depth": 2})], Layout(where={"model.depth": 3}), layout_path="there")


def test_config_values_are_written_as_they_are_typed(make_record: MakeRecord) -> None:
    values = [None, "pre", True, 0.0001]
    table = table_of([make_record({"model.tie_embeddings": value}) for value in values])
    assert [row.labels[0] for row in table.rows] == ["0.0001", "true", "null", "pre"]
