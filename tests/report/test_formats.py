from __future__ import annotations

import csv
import dataclasses
import io
import re
from pathlib import Path

import pytest

from attnbench.report.aggregate import Row, Table
from attnbench.report.cells import Cell
from attnbench.report.formats import csv_text, latex, markdown
from attnbench.report.keys import RowKey
from attnbench.report.layout import Column
from attnbench.report.statistics import Summary

TABLE = Table(
    title="Norm & depth: 100 %",
    keys=(RowKey("model.norm", "norm"),),
    columns=(
        Column("metrics.test.bleu", "BLEU"),
        Column("parameters.total", "size", unit="10^6", digits=1, scale=1e-6),
    ),
    rows=(
        Row(
            ("pre_norm",),
            (
                Cell(Summary(31.25, 0.5, 3), "31.25", "± 0.50 (n=3)", "", ("b", "a", "c"), best=True),
                Cell(Summary(1200000.0, 0.0, 3), "1.2", "", "", ("b", "a", "c")),
            ),
            ((("a", 30.0),), ()),
        ),
        Row(
            ("a|b <x> #1",),
            (Cell(None, "failed", "", "1 failed", ()), Cell(None, "failed", "", "1 failed", ())),
            ((), ()),
        ),
    ),
    notes=("case:lc|tok:13a {x} ~ 50 % \\ ok",),
    marks=(("a", "Somebody 2017, Table_3."),),
)


def test_markdown() -> None:
    assert markdown(TABLE) == (
        "## Norm & depth: 100 %\n"
        "\n"
        "| norm           |                   BLEU |   BLEU, published |   size (10^6) |\n"
        "|:---------------|-----------------------:|------------------:|--------------:|\n"
        "| pre_norm       | **31.25** ± 0.50 (n=3) |         30.00 [a] |           1.2 |\n"
        "| a\\|b &lt;x> #1 |                 failed |                 \N{EN DASH} |        failed |\n"
        "\n"
        "- case:lc|tok:13a {x} ~ 50 % \\ ok\n"
        "- [a] Somebody 2017, Table_3.\n"
    )


def test_latex_is_booktabs_and_escaped() -> None:
    text = latex(TABLE)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:5] == [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        r"\caption{Norm \& depth: 100 \%}",
        r"\begin{tabular}{lrrr}",
    ]
    assert lines[5] == r"\toprule"
    assert lines[6] == r"norm & BLEU & BLEU, published & size (10\^{}6) \\"
    assert lines[7] == r"\midrule"
    assert lines[8] == r"pre\_norm & \textbf{31.25} $\pm$ 0.50 (n=3) & 30.00 [a] & 1.2 \\"
    assert lines[9] == r"a\textbar{}b \ensuremath{<}x\ensuremath{>} \#1 & failed & -- & failed \\"
    assert lines[10:12] == [r"\bottomrule", r"\end{tabular}"]
    assert r"case:lc\textbar{}tok:13a \{x\} \textasciitilde{} 50 \% \textbackslash{} ok\par" in lines
    assert r"[a] Somebody 2017, Table\_3.\par" in lines
    assert text.endswith("\\end{table}\n")
    assert text.isascii()
    for environment in ("table", "tabular", "minipage"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1


def test_no_latex_row_is_taken_for_an_argument_of_a_line_break() -> None:
    rows = tuple(dataclasses.replace(TABLE.rows[1], labels=(label,)) for label in ("[1, 2]", "*"))
    text = latex(dataclasses.replace(TABLE, rows=rows))
    assert not re.search(r"\\\\\s*[\[*]", text)


def test_csv_has_full_numbers_and_where_they_come_from() -> None:
    first, second = csv.DictReader(io.StringIO(csv_text(TABLE)))
    assert first == {
        "model.norm": "pre_norm",
        "metrics.test.bleu": "31.25",
        "metrics.test.bleu.std": "0.5",
        "metrics.test.bleu.n": "3",
        "metrics.test.bleu.missing": "",
        "metrics.test.bleu.published": "30.0",
        "parameters.total": "1200000.0",
        "parameters.total.std": "0.0",
        "parameters.total.n": "3",
        "parameters.total.missing": "",
        "run_ids": "b a c",
    }
    assert second["model.norm"] == "a|b <x> #1"
    assert (second["metrics.test.bleu"], second["metrics.test.bleu.n"]) == ("", "0")
    assert second["metrics.test.bleu.missing"] == "1 failed"


@pytest.mark.parametrize("render", [markdown, latex, csv_text])
def test_a_table_needs_neither_row_keys_nor_notes(render: object) -> None:
    assert callable(render)
    rows = tuple(dataclasses.replace(row, labels=()) for row in TABLE.rows)
    text = render(dataclasses.replace(TABLE, keys=(), rows=rows, notes=(), marks=()))
    assert "31.25" in text
    assert "minipage" not in text


def test_this_file_tests_every_format() -> None:
    from attnbench.report.formats import FORMATS

    assert {render for _, render in FORMATS.values()} == {markdown, latex, csv_text}
    assert [Path(file).suffix for file, _ in FORMATS.values()] == [".md", ".csv", ".tex"]
