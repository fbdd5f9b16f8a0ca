from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from attnbench.records.record import Record, RecordError, Status
from attnbench.reporting.aggregation import Table, build_table
from attnbench.reporting.keys import Best, RowKey
from attnbench.reporting.layout import Bold, Column, Layout, Paper, Publication, PublishedNumbers, RowGroup

MakeRecord = Callable[..., Record]
BLEU = Column("metrics.test.bleu", best=Best.max, change=True)
ROWS = [RowKey("model.depth"), RowKey("model.norm_placement")]


def grid(make_record: MakeRecord, seeds: int = 1, gain: float = 1.0) -> list[Record]:
    """Depth 2 and 4, pre and post; each level gains as much, and seeds differ a little."""
    return [
        make_record(
            {"model.depth": depth, "model.norm_placement": norm},
            seed=seed,
            bleu=30 + gain * (depth == 4) + 2 * gain * (norm == "pre") + 0.1 * ((seed * 7 + depth) % 5),
        )
        for depth in (2, 4)
        for norm in ("post", "pre")
        for seed in range(1, seeds + 1)
    ]


def table_of(records: list[Record], paper: Paper | None = None, **layout: Any) -> Table:
    fields: dict[str, Any] = {"rows": ROWS, "columns": [BLEU]} | layout
    return build_table(records, None, Layout(**fields), paper or Paper(), title="demo", layout_path="here")


def test_each_row_has_the_baseline_that_is_like_it_otherwise(make_record: MakeRecord) -> None:
    rows = table_of(grid(make_record), baseline={"model.norm_placement": "post"}).rows
    assert [(row.labels, row.changes[0]) for row in rows] == [
        (("2", "post"), None),
        (("2", "pre"), pytest.approx(2)),
        (("4", "post"), None),
        (("4", "pre"), pytest.approx(2)),
    ]


def test_one_baseline_is_everybody_s(make_record: MakeRecord) -> None:
    rows = table_of(grid(make_record), baseline={"model.norm_placement": "post", "model.depth": 2}).rows
    assert [row.changes[0] for row in rows] == [None, *(pytest.approx(n, abs=0.3) for n in (2, 1, 3))]


def test_a_baseline_that_is_not_there_is_told(make_record: MakeRecord) -> None:
    table = table_of(
        grid(make_record), baseline={"model.norm_placement": "none"}, groups=[RowGroup("(A)", ["model.norm_placement"])]
    )
    assert "Nothing is compared: no row has model.norm_placement=none, the baseline, beside others." in table.notes
    assert [row.printed_labels for row in table.rows] == [row.labels for row in table.rows]
    with pytest.raises(RecordError, match=r"^here: no run has the config key model\.nrm; did you mean model\.norm"):
        table_of(grid(make_record), baseline={"model.nrm": "post"})


def test_groups_stand_as_the_layout_says_with_what_differs_alone(make_record: MakeRecord) -> None:
    groups = [RowGroup("(A)", ["model.norm_placement"]), RowGroup("(B)", ["model.depth"])]
    table = table_of(grid(make_record), baseline={"model.norm_placement": "post", "model.depth": 4}, groups=groups)
    assert [(row.group, row.printed_labels) for row in table.rows] == [
        ("", ("4", "post")),
        ("(A)", ("", "pre")),
        ("(B)", ("2", "")),
        ("", ("2", "pre")),  # differs in both, and so is in no group
    ]
    assert "An empty place is as in the baseline, which stands first." in table.notes


def test_a_published_change_is_from_the_same_source_s_own_baseline(make_record: MakeRecord) -> None:
    numbers = [
        PublishedNumbers(source, {"model.norm_placement": norm}, {"metrics.test.bleu": value})
        for source, norm, value in (("x", "post", 20.0), ("x", "pre", 21.5), ("y", "pre", 40.0))
    ]
    paper = Paper({"x": Publication("X.", "p"), "y": Publication("Y.", "p")}, numbers)
    rows = table_of(grid(make_record), paper, baseline={"model.norm_placement": "post"}).rows
    assert [quoted.change for quoted in rows[1].published[0]] == [1.5, None]
    assert [quoted.change for quoted in rows[0].published[0]] == [None]


@pytest.mark.parametrize(("seeds", "told"), [(3, False), (6, True)])
def test_a_difference_is_marked_only_where_seeds_can_tell(make_record: MakeRecord, seeds: int, told: bool) -> None:
    records = [record for record in grid(make_record, seeds) if record.config["model"]["depth"] == 2]
    table = table_of(records, baseline={"model.norm_placement": "post"})
    assert [row.cells[0].differs for row in table.rows] == [False, told]
    said = next(note for note in table.notes if "paired permutation" in note)
    few = "With 3 common seeds no difference from the baseline can be distinguished"
    assert said.startswith("*: differs" if told else few)


def test_rows_without_a_common_seed_count_in_no_test_and_in_nothing_said_of_them(make_record: MakeRecord) -> None:
    seeds = {"post": range(1, 7), "pre": range(1, 7), "none": range(11, 17)}
    records = [
        make_record({"model.norm_placement": norm}, seed=seed, bleu=30 + (norm == "pre") + 0.01 * seed)
        for norm, chosen in seeds.items()
        for seed in chosen
    ]
    rows = [RowKey("model.norm_placement")]
    table = table_of(records, rows=rows, baseline={"model.norm_placement": "post"})
    assert {row.labels[0]: row.cells[0].differs for row in table.rows} == {"none": False, "post": False, "pre": True}
    assert table.notes[-1] == (
        "*: differs from the baseline (exact paired permutation test over seeds, Holm's correction within a column;"
        " p < 0.05). Rows without a common seed (1) are not compared."
    )
    few = table_of([r for r in records if r.seed not in (1, 2)], rows=rows, baseline={"model.norm_placement": "post"})
    assert few.notes[-1].startswith(
        "With 4 common seeds no difference from the baseline can be distinguished from chance: the"
    )
    assert "0.125; 1 comparison needs 6 seeds" in few.notes[-1]
    one = [*records, make_record({"model.norm_placement": "sandwich"}, seed=1, bleu=40.0)]
    more = table_of(one, rows=rows, baseline={"model.norm_placement": "post"})
    assert not any(row.cells[0].differs for row in more.rows), "two comparisons need seven seeds"
    assert "0.03125; 2 comparisons need 7 seeds" in more.notes[-1]


def test_comparisons_with_too_few_seeds_are_counted(make_record: MakeRecord) -> None:
    seeds = {"post": 8, "pre": 8, "none": 3}
    records = [
        make_record({"model.norm_placement": norm}, seed=seed, bleu=30 + (norm == "pre") + 0.01 * seed)
        for norm, count in seeds.items()
        for seed in range(1, count + 1)
    ]
    table = table_of(records, rows=[RowKey("model.norm_placement")], baseline={"model.norm_placement": "post"})
    assert [row.labels[0] for row in table.rows if row.cells[0].differs] == ["pre"]
    assert table.notes[-1].endswith("1 of 2 comparisons have under 6 common seeds, which can show none.")


def test_no_common_seed_is_said(make_record: MakeRecord) -> None:
    records = [make_record({"model.norm_placement": norm}, seed=seed) for norm, seed in (("pre", 1), ("post", 2))]
    table = table_of(records, rows=[RowKey("model.norm_placement")], baseline={"model.norm_placement": "post"})
    assert table.notes[-1].startswith("No seed has a number both in the baseline")


def test_nothing_is_said_of_seeds_where_no_column_has_a_best(make_record: MakeRecord) -> None:
    table = table_of(grid(make_record), columns=[replace(BLEU, best=None)], baseline={"model.norm_placement": "post"})
    assert not [note for note in table.notes if "seed" in note and "baseline" in note]


def test_bold_can_be_all_that_is_not_told_from_the_best(make_record: MakeRecord) -> None:
    records = grid(make_record, 8, gain=0.02)
    for record in records:
        if record.config["model"] == {"depth": 2, "norm_placement": "post"}:
            record.metrics["test"]["bleu"] -= 5
    table = table_of(records, bold=Bold.not_worse)
    assert [row.cells[0].best for row in table.rows] == [False, True, True, True]
    few = table_of([record for record in records if record.seed < 4], bold=Bold.not_worse)
    assert not any(row.cells[0].best for row in few.rows), "three seeds tell nothing apart"
    assert all(any("does not tell from it" in note for note in made.notes) for made in (table, few))


def test_a_baseline_without_a_number_leaves_a_dash(make_record: MakeRecord) -> None:
    records = grid(make_record)
    records[0].status = Status.failed
    rows = table_of(records, baseline={"model.norm_placement": "post", "model.depth": 2}).rows
    assert [row.changes[0] for row in rows] == [None] * 4
