"""The tables of experiments/ are made of the runs that their sweeps plan, whatever those found."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.reporting.aggregation import Table, build_table
from attnbench.reporting.formats import FORMATS
from attnbench.reporting.layout import read_layout
from attnbench.sweeps.plan import build_plan

from .records import made_up

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def table_of(name: str) -> tuple[Table, int]:
    """Its table from made-up records of each planned run, and how many there are."""
    plan = build_plan([f"sweep={name}"], is_multirun=True)
    layout, paper = read_layout(EXPERIMENTS / name)
    return build_table([made_up(run) for run in plan.runs], plan, layout, paper, title=name), len(plan.runs)


@pytest.mark.parametrize(("name", "rows", "seeds"), [("multi30k_baselines", 1, 3), ("attention_rnn", 9, 3)])
def test_a_sweep_fills_its_table(name: str, rows: int, seeds: int) -> None:
    table, runs = table_of(name)
    assert (len(table.rows), runs) == (rows, rows * seeds)
    assert all(len(cell.run_ids) == seeds for row in table.rows for cell in row.cells)
    assert all(render(table) for _, render in FORMATS.values())


def test_each_variation_stands_in_its_group_beside_the_published_change() -> None:
    table, runs = table_of("transformer_variations")
    assert runs == 54
    groups = [row.group for row in table.rows]
    assert [(group, groups.count(group)) for group in dict.fromkeys(groups)] == [
        ("", 1), ("(A)", 4), ("(B)", 2), ("(C)", 6), ("(D)", 4), ("(E)", 1),
    ]  # fmt: skip
    for row in table.rows[1:]:
        assert sum(map(bool, row.printed_labels)) == 1, "what differs, and nothing else"
        (bleu,) = row.published[1]
        assert bleu.change == pytest.approx(bleu.value - 25.8)
        assert bleu.difference is None, "another data set"
    assert [row.published[1][0].value for row in table.rows if row.group == "(A)"] == [24.9, 25.5, 25.8, 25.4]
