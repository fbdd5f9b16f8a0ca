from __future__ import annotations

import re
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
    assert "Empty cell: the same value as in the baseline (first row)." in table.notes


def test_a_published_change_is_from_the_same_source_s_own_baseline(make_record: MakeRecord) -> None:
    numbers = [
        PublishedNumbers(source, {"model.norm_placement": norm}, {"metrics.test.bleu": value})
        for source, norm, value in (("x", "post", 20.0), ("x", "pre", 21.5), ("y", "pre", 40.0))
    ]
    paper = Paper({"x": Publication("X.", "p"), "y": Publication("Y.", "p")}, numbers)
    rows = table_of(grid(make_record), paper, baseline={"model.norm_placement": "post"}).rows
    assert [quoted.change for quoted in rows[1].published[0]] == [1.5, None]
    assert [quoted.change for quoted in rows[0].published[0]] == [None]


def noise(norm: str, seed: int) -> float:
    """Return a deviation of a seed that differs between settings."""
    return 0.1 * ((seed * 7 + len(norm) * 3 + seed * seed * len(norm)) % 5)


def one_row_each(make_record: MakeRecord, seeds: dict[str, range], gain: float = 1.0) -> list[Record]:
    """Records of norm placements with different seeds; pre gains."""
    return [
        make_record(
            {"model.norm_placement": norm}, seed=seed, bleu=30 + gain * (norm == "pre") + 0.5 * seed + noise(norm, seed)
        )
        for norm, chosen in seeds.items()
        for seed in chosen
    ]


def verdicts_of(records: list[Record], column: Column = BLEU) -> tuple[Table, list[str]]:
    layout = {"rows": [RowKey("model.norm_placement")], "baseline": {"model.norm_placement": "post"}}
    table = table_of(records, columns=[column], **layout)
    return table, [note for note in table.notes if "post" in note]


def test_a_clear_difference_is_a_verdict_with_interval_seeds_and_p(make_record: MakeRecord) -> None:
    table, (verdict,) = verdicts_of(one_row_each(make_record, {"post": range(1, 6), "pre": range(1, 6)}))
    assert re.fullmatch(
        r"pre is better than post by 0\.90 bleu \(95 % interval \+0\.\d\d to \+1\.\d\d, n=5, p=0\.0\d+\)\.", verdict
    )
    assert [row.cells[0].differs for row in table.rows] == [False, True]
    assert "*: differs from the baseline (paired t-test over seeds, Holm's correction in a column; p < 0.05)." in (
        table.notes
    )
    worse = replace(BLEU, best=Best.min)
    assert verdicts_of(one_row_each(make_record, {"post": range(1, 6), "pre": range(1, 6)}), worse)[1][0].startswith(
        "pre is worse than post by 0.90 bleu ("
    )


def test_a_small_difference_is_not_told_and_the_seeds_it_needs_are_named(make_record: MakeRecord) -> None:
    records = one_row_each(make_record, {"post": range(1, 4), "pre": range(1, 4)}, gain=0.15)
    table, (verdict,) = verdicts_of(records)
    found = re.fullmatch(
        r"Cannot tell whether pre differs from post:"
        r" difference \+0\.\d\d bleu \(95 % interval \S+ to \S+, n=3, p=[\d.]+\)\. 3 seeds"
        r" find"
        r" differences from (\d\.\d\d) on in 80 % of cases; one of this size needs (about \d+|more than 1,000)\.",
        verdict,
    )
    assert found is not None, verdict
    assert not any(row.cells[0].differs for row in table.rows)


def test_a_margin_allows_the_verdict_that_rows_are_the_same(make_record: MakeRecord) -> None:
    records = one_row_each(make_record, {"post": range(1, 11), "pre": range(1, 11)}, gain=0.0)
    _, (without,) = verdicts_of(records)
    assert without.startswith("Cannot tell")
    _, (verdict,) = verdicts_of(records, replace(BLEU, margin=0.5))
    assert verdict.startswith("pre and post are the same within 0.50 bleu (two one-sided tests; 95 % interval")


def test_rows_without_a_common_seed_are_not_compared_and_do_not_count(make_record: MakeRecord) -> None:
    seeds = {"post": range(1, 6), "pre": range(1, 6), "none": range(11, 17)}
    table, verdicts = verdicts_of(one_row_each(make_record, seeds))
    assert {row.labels[0]: row.cells[0].differs for row in table.rows} == {"none": False, "post": False, "pre": True}
    assert verdicts[0] == "none and post have no seed in common, so that they are not compared."
    assert "after Holm" not in verdicts[1], "one comparison needs no correction"


def test_a_comparison_of_one_seed_counts_in_the_correction(make_record: MakeRecord) -> None:
    seeds = {"post": range(1, 6), "pre": range(1, 6), "sandwich": range(1, 2)}
    table, verdicts = verdicts_of(one_row_each(make_record, seeds))
    assert "after Holm" in verdicts[0]
    assert verdicts[1].startswith(
        "Cannot tell whether sandwich differs from post: one common seed does not show the spread"
    )
    assert any("corrected for 2 comparisons (Holm 1979)" in note for note in table.notes)


def test_one_seed_for_all_rows_is_one_sentence(make_record: MakeRecord) -> None:
    seeds = {"post": range(1, 2), "pre": range(1, 2), "sandwich": range(1, 2)}
    table, _ = verdicts_of(one_row_each(make_record, seeds))
    expected = (
        "Cannot tell whether rows differ from their baselines: one common seed does not show the spread over seeds."
    )
    assert [note for note in table.notes if "seed does" in note] == [expected]


def test_equal_differences_give_no_verdict(make_record: MakeRecord) -> None:
    records = [
        make_record({"model.norm_placement": norm}, seed=seed, bleu=30 + (norm == "pre") + seed)
        for norm in ("post", "pre")
        for seed in (1, 2, 3)
    ]
    _, (verdict,) = verdicts_of(records)
    assert verdict.startswith("Cannot tell whether pre differs from post: all 3 common seeds")


def test_nothing_is_said_of_seeds_where_no_column_has_a_best(make_record: MakeRecord) -> None:
    table = table_of(grid(make_record), columns=[replace(BLEU, best=None)], baseline={"model.norm_placement": "post"})
    assert not [note for note in table.notes if "seed" in note and "baseline" in note]


def test_bold_can_be_all_that_is_not_told_from_the_best(make_record: MakeRecord) -> None:
    records = grid(make_record, 8, gain=0.02)
    for record in records:
        record.metrics["test"]["bleu"] += noise(str(record.config["model"]), record.seed)
    for record in records:
        if record.config["model"] == {"depth": 2, "norm_placement": "post"}:
            record.metrics["test"]["bleu"] -= 5
    table = table_of(records, bold=Bold.not_worse)
    assert [row.cells[0].best for row in table.rows] == [False, True, True, True]
    few = table_of([record for record in records if record.seed == 1], bold=Bold.not_worse)
    assert not any(row.cells[0].best for row in few.rows), "one seed does not tell them apart"
    assert all(any("does not tell from it" in note for note in made.notes) for made in (table, few))


def test_a_baseline_without_a_number_leaves_a_dash(make_record: MakeRecord) -> None:
    records = grid(make_record)
    records[0].status = Status.failed
    rows = table_of(records, baseline={"model.norm_placement": "post", "model.depth": 2}).rows
    assert [row.changes[0] for row in rows] == [None] * 4
