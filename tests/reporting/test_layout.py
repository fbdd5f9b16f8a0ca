from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnbench.records.record import RecordError
from attnbench.reporting.keys import Best
from attnbench.reporting.layout import Layout, Paper, config_matches, read_layout

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_no_file_is_an_empty_layout(tmp_path: Path) -> None:
    assert read_layout(tmp_path) == (Layout(), Paper())


def test_a_key_alone_is_a_row_or_a_column(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text("rows: [model.depth]\ncolumns: [{key: metrics.test.bleu, best: max}, seed]\n")
    layout, _ = read_layout(tmp_path)
    assert [row.key for row in layout.rows] == ["model.depth"]
    assert [(column.key, column.best) for column in layout.columns] == [
        ("metrics.test.bleu", Best.max),
        ("seed", None),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row: [seed]", "table.yaml: no such field: row; expected title, rows, columns, where, baseline"),
        ("rows: [{label: x}]", r"table.yaml: rows\[0\]: the field key is missing"),
        (
            "columns: [{key: seed, digits: two}]",
            r"table.yaml: columns\[0\]: digits: expected a whole number, given 'two'",
        ),
        ("columns: [{key: seed, best: most}]", r"columns\[0\]: best: expected one of max, min, given 'most'"),
        (
            "columns: [{key: metrics.test.bleu, above: metric.test.x}]",
            "columns: metric.test.x: expected a path that begins with",
        ),
        ("columns: [metric.test.bleu]", "columns: metric.test.bleu: expected a path that begins with"),
        ("rows: seed", "rows: expected a list, given 'seed'"),
        ("- rows", "expected keys with values, given"),
        ("rows: [", "table.yaml: not valid YAML"),
        ("groups: [{label: A, keys: [seed]}]", "table.yaml: groups: expected `baseline` too"),
        ("bold: brave", "bold: expected one of best, not_worse, given 'brave'"),
        ("paper: paper.yaml", "paper.yaml: cannot be read: No such file"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.yaml").write_text(text)
    with pytest.raises(RecordError, match=message) as caught:
        read_layout(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_number_without_its_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text("paper: p.yaml")
    (tmp_path / "p.yaml").write_text("numbers: [{source: me, where: {}, values: {seed: 1}}]")
    with pytest.raises(RecordError, match=r"p.yaml: numbers\[0\]: source: me: expected one of sources: none"):
        read_layout(tmp_path)


@pytest.mark.parametrize(
    ("ours", "asked", "same"),
    [
        (2, 2, True),
        (1.0, 1, True),
        (0.001, "1e-3", True),
        (0.001, "pre", False),
        (True, 1, False),
        (1, True, False),
        (None, None, True),
        ("pre", "pre", True),
        (2, 4, False),
    ],
)
def test_agreement(ours: Any, asked: Any, same: bool) -> None:
    assert config_matches({"a": ours}, {"a": asked}) is same
    assert not config_matches({}, {"a": asked})


@pytest.mark.parametrize("table", [path.parent.name for path in sorted(EXPERIMENTS.glob("*/table.yaml"))])
def test_every_experiment_can_be_read(table: str) -> None:
    layout, paper = read_layout(EXPERIMENTS / table)
    assert layout.title
    assert layout.rows
    columns = {column.key for column in layout.columns}
    assert all(set(number.values) <= columns for number in paper.numbers), "a published number that nothing shows"
    assert (EXPERIMENTS / table / "README.md").read_text().startswith(f"# {table}: ")
