from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from attnbench.records.record import Record, RecordError, Status
from attnbench.reporting.aggregation import Table, group_runs
from attnbench.reporting.effects import build_effects_table
from attnbench.reporting.keys import Best, RowKey
from attnbench.reporting.layout import Column, Layout

MakeRecord = Callable[..., Record]
LAYOUT = Layout(
    rows=[RowKey("model.depth", "depth"), RowKey("model.norm_placement", "norm"), RowKey("model.num_heads", "heads")],
    columns=[Column("metrics.test.bleu", "BLEU", best=Best.max)],
)
DEPTHS, NORMS, HEADS = (2, 4, 6), ("post", "pre"), (1, 8)
BLEU_DNH = np.random.default_rng(0).normal(30, 3, (3, 2, 2)).round(3)


def records(make_record: MakeRecord) -> list[Record]:
    return [
        make_record(
            {"model.depth": d, "model.norm_placement": n, "model.num_heads": h}, seed=seed, bleu=float(BLEU_DNH[place])
        )
        for place, (d, n, h) in zip(np.ndindex(BLEU_DNH.shape), itertools.product(DEPTHS, NORMS, HEADS), strict=True)
        for seed in (1, 2)
    ]


def table_of(found: list[Record], layout: Layout = LAYOUT) -> Table:
    return build_effects_table(group_runs(found, None, layout, "here"), "here", "demo")


def numbers(table: Table, factor: str) -> dict[str, tuple[float, float, str]]:
    """By level: mean, effect, and what it was averaged over."""
    return {
        row.labels[2]: (mean.summary.mean, effect.summary.mean, over.value)
        for row in table.rows
        if row.labels[1] == factor
        for mean, effect, over in [row.cells]
        if mean.summary is not None and effect.summary is not None
    }


def test_main_effects_and_interactions_are_those_of_the_cell_means(make_record: MakeRecord) -> None:
    table, grand = table_of(records(make_record)), BLEU_DNH.mean()
    for level, mean in zip(DEPTHS, BLEU_DNH.mean((1, 2)), strict=True):
        assert numbers(table, "depth")[str(level)] == pytest.approx((mean, mean - grand, "4 of 4 settings, 8 runs"))
    two_DN = BLEU_DNH.mean(2)
    beyond_DN = two_DN - two_DN.mean(1, keepdims=True) - two_DN.mean(0) + grand
    for (d, n), mean in np.ndenumerate(two_DN):
        found = numbers(table, "depth x norm")[f"{DEPTHS[d]}, {NORMS[n]}"]
        assert found == pytest.approx((mean, beyond_DN[d, n], "2 of 2 settings, 4 runs"))
    assert {row.labels[1] for row in table.rows} >= {"norm x heads", "depth x heads"}
    assert not any("no number" in note for note in table.notes)


def test_what_is_missing_at_one_level_is_missing_at_all_and_named(make_record: MakeRecord) -> None:
    found = records(make_record)
    for record in found:
        if record.config["model"] == {"depth": 4, "norm_placement": "pre", "num_heads": 8}:
            record.status = Status.failed
    table = table_of(found)
    kept_DNH = BLEU_DNH.copy()
    kept_DNH[:, 1, 1] = np.nan  # one level of depth has no number there: all are averaged without it
    means_D = np.nanmean(kept_DNH, (1, 2))
    for level, mean in zip(DEPTHS, means_D, strict=True):
        expected = (mean, mean - means_D.mean(), "3 of 4 settings, 6 runs")
        assert numbers(table, "depth")[str(level)] == pytest.approx(expected)
    assert table.notes[-1] == "BLEU: no number for depth 4, norm pre, heads 8 (2 failed)."
    assert table_of([r for r in found if r.status is not Status.failed]).notes[-1].endswith("heads 8 (not planned).")


def test_variations_of_one_factor_at_a_time_are_no_grid(make_record: MakeRecord) -> None:
    corner = [
        make_record({"model.depth": d, "model.norm_placement": n, "model.num_heads": 1})
        for d, n in ((2, "post"), (4, "post"), (2, "pre"))
    ]
    table = table_of(corner)
    assert numbers(table, "depth x norm") == {}
    assert {row.cells[0].value for row in table.rows if row.labels[1] == "depth x norm"} == {
        "not all levels have a number"
    }
    assert numbers(table, "depth")["4"][2] == "1 of 2 settings, 1 runs"


def test_nothing_to_tell_is_refused(make_record: MakeRecord) -> None:
    with pytest.raises(RecordError, match="here: rows: expected a key with two values, whose effect is computed"):
        table_of(records(make_record)[:1])
    with pytest.raises(RecordError, match="here: columns: expected best: max or min in one"):
        table_of(records(make_record), Layout(rows=LAYOUT.rows, columns=[Column("parameters.total")]))
