from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from attnbench.records.record import Record, RecordError
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import Column, Layout
from attnbench.reporting.runs import ABSENT, collect_runs, flatten_config, group_into_rows, select_runs

MakeRecord = Callable[..., Record]


def rows_of(records: list[Record], *rows: str, columns: tuple[str, ...] = ()) -> tuple[list[str], list[list[int]]]:
    keys, groups = group_into_rows(
        collect_runs(records, None), [RowKey(row) for row in rows], [Column(c) for c in columns]
    )
    return [key.key for key in keys], [sorted(run.config["seed"] for run in group) for group in groups]


def test_flattening_keeps_lists_whole() -> None:
    assert flatten_config({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}) == {"a.b.c": 1, "a.d": (1, 2), "e": None}


def test_seeds_share_a_row(make_record: MakeRecord) -> None:
    records = [make_record({"model.depth": depth}, seed=seed) for depth in (2, 10) for seed in (1, 2, 3)]
    assert rows_of(records, "model.depth") == (["model.depth"], [[1, 2, 3], [1, 2, 3]])


def test_what_differs_is_never_averaged(make_record: MakeRecord) -> None:
    grid = itertools.product((1, 2), (0.1, 0.3), (7, 8))
    records = [make_record({"model.depth": d, "optim.lr": lr}, seed=seed) for d, lr, seed in grid]
    assert rows_of(records, "model.depth") == (["model.depth", "optim.lr"], [[7, 8]] * 4)
    assert rows_of(records) == (["model.depth", "optim.lr"], [[7, 8]] * 4)


def test_a_key_that_goes_with_a_row_key_needs_no_column(make_record: MakeRecord) -> None:
    records = [make_record({"model.depth": d, "model.d_ff": 100 * d}) for d in (1, 2)]
    assert rows_of(records, "model.depth") == (["model.depth"], [[1], [1]])


def test_a_key_that_a_column_shows_needs_no_row_key(make_record: MakeRecord) -> None:
    records = [make_record({"model.depth": d}, seed=d) for d in (1, 2)]
    assert rows_of(records, columns=("config.model.depth",)) == ([], [[1], [2]])


def test_where_it_ran_does_not_split_a_row(make_record: MakeRecord) -> None:
    records = [make_record({"trainer.devices": n, "logger.name": f"log{n}"}, seed=n) for n in (1, 2)]
    assert rows_of(records) == ([], [[1, 2]])


def test_seed_can_be_a_row(make_record: MakeRecord) -> None:
    assert rows_of([make_record({}, seed=seed) for seed in (2, 1)], "seed") == (["seed"], [[1], [2]])


def test_rows_are_in_order_of_size(make_record: MakeRecord) -> None:
    records = [make_record({"model.depth": depth}) for depth in (10, 2, 1)] + [make_record({})]
    _, groups = group_into_rows(collect_runs(records, None), [RowKey("model.depth")], [])
    assert [group[0].config.get("model.depth", ABSENT) for group in groups] == [1, 2, 10, ABSENT]


def test_a_key_that_no_run_has_is_named(make_record: MakeRecord) -> None:
    runs = collect_runs([make_record({"model.depth": 2})], None)
    with pytest.raises(RecordError, match=r"^here: no run has the config key model\.deph; did you mean model\.depth\?"):
        select_runs(runs, Layout(rows=[RowKey("model.deph")]), "here")


def test_where_leaves_out_the_rest(make_record: MakeRecord) -> None:
    runs = collect_runs([make_record({"optim.lr": lr}) for lr in (0.001, 0.002)], None)
    assert [run.config["optim.lr"] for run in select_runs(runs, Layout(where={"optim.lr": "1e-3"}), "here")] == [0.001]
