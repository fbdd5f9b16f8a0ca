from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from attnbench.metrics.statistics import Summary
from attnbench.reporting.aggregation import PublishedValue, Row, Table
from attnbench.reporting.cells import Cell
from attnbench.reporting.exports import format_csv, format_json, format_trace
from attnbench.reporting.formats import FORMATS, format_latex, format_markdown
from attnbench.reporting.html_tables import format_html
from attnbench.reporting.keys import RowKey
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import ABSENT

TABLE = Table(
    title="Norm & depth: 100 %",
    keys=(RowKey("model.norm_placement", "norm"),),
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
            ((PublishedValue("a", 30.0, 1.25),), ()),
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
    assert format_markdown(TABLE) == (
        "## Norm & depth: 100 %\n"
        "\n"
        "| norm           |                   BLEU |   BLEU, published |   ours less published |   size (10^6) |\n"
        "|:---------------|-----------------------:|------------------:|----------------------:|--------------:|\n"
        "| pre_norm       | **31.25** ± 0.50 (n=3) |         30.00 [a] |             +1.25 [a] |           1.2 |\n"
        f"| a\\|b &lt;x> #1 |                 failed |{ABSENT:>18} |{ABSENT:>22} |        failed |\n"
        "\n"
        "- case:lc|tok:13a {x} ~ 50 % \\ ok\n"
        "- [a] Somebody 2017, Table_3.\n"
    )


def test_latex_is_booktabs_and_escaped() -> None:
    text = format_latex(TABLE)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert r"\caption{Norm \& depth: 100 \%}\smallskip" in lines
    first = lines.index(r"\begin{tabular}{lrrrr}")
    assert lines[first + 1 : first + 8] == [
        r"\toprule",
        r"norm & BLEU & \shortstack{BLEU,\\published} & \shortstack{ours less\\published} & size (10\^{}6) \\",
        r"\midrule",
        r"pre\_norm & \textbf{31.25} $\pm$ 0.50 (n=3) & 30.00 [a] & +1.25 [a] & 1.2 \\",
        r"a\textbar{}b \ensuremath{<}x\ensuremath{>} \#1 & failed & -- & -- & failed \\",
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    assert r"case:lc\textbar{}tok:13a \{x\} \textasciitilde{} 50 \% \textbackslash{} ok\par" in lines
    assert r"[a] Somebody 2017, Table\_3.\par" in lines
    assert text.isascii()
    for environment in ("table", "tabular", "minipage"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1


def test_no_latex_row_is_taken_for_an_argument_of_a_line_break() -> None:
    rows = tuple(dataclasses.replace(TABLE.rows[1], labels=(label,)) for label in ("[1, 2]", "*"))
    text = format_latex(dataclasses.replace(TABLE, rows=rows))
    assert not re.search(r"\\\\\s*[\[*]", text)


def test_csv_has_full_numbers_and_where_they_come_from() -> None:
    first, second = csv.DictReader(io.StringIO(format_csv(TABLE)))
    assert first == {
        "model.norm_placement": "pre_norm",
        "metrics.test.bleu": "31.25",
        "metrics.test.bleu.std": "0.5",
        "metrics.test.bleu.n": "3",
        "metrics.test.bleu.missing": "",
        "metrics.test.bleu.run_ids": "b a c",
        "metrics.test.bleu.published": "30.0",
        "parameters.total": "1200000.0",
        "parameters.total.std": "0.0",
        "parameters.total.n": "3",
        "parameters.total.missing": "",
        "parameters.total.run_ids": "b a c",
    }
    assert second["model.norm_placement"] == "a|b <x> #1"
    assert (second["metrics.test.bleu"], second["metrics.test.bleu.n"]) == ("", "0")
    assert second["metrics.test.bleu.missing"] == "1 failed"


def test_html_escapes_and_tells_the_runs_of_a_cell() -> None:
    text = format_html(TABLE)
    assert '<td class="right" title="runs: b a c"><b>31.25</b> ± 0.50 (n=3)</td>' in text
    assert '<td class="left">a|b &lt;x&gt; #1</td><td class="right" title="runs: none; 1 failed">failed</td>' in text
    assert "<title>Norm &amp; depth: 100 %</title>" in text
    assert not re.search("https?:|<script|src=", text), "a page that needs nothing beside it"


def test_json_has_all_that_the_table_holds() -> None:
    first, second = json.loads(format_json(TABLE))["rows"]
    assert first["labels"] == {"model.norm_placement": "pre_norm"}
    bleu = first["cells"]["metrics.test.bleu"]
    assert (bleu["summary"]["mean"], bleu["run_ids"], bleu["published"][0]["value"]) == (31.25, ["b", "a", "c"], 30.0)
    assert second["cells"]["parameters.total"]["missing"] == "1 failed"


def test_every_number_can_be_traced_to_its_runs() -> None:
    assert format_trace(TABLE).splitlines()[:3] == [
        "norm pre_norm: BLEU: b a c",
        "norm pre_norm: size (10^6): b a c",
        "norm a|b <x> #1: BLEU: none (1 failed)",
    ]


GROUPED = dataclasses.replace(
    TABLE,
    keys=(RowKey("model.norm_placement", "norm"), RowKey("model.depth", "layers")),
    columns=(Column("metrics.test.bleu", "BLEU", change=True),),
    rows=tuple(
        Row(
            labels,
            (Cell(Summary(mean, None, 1), f"{mean:.2f}", "(n=1)", "", ("r",)),),
            (quoted,),
            group,
            (change,),
            same,
        )
        for labels, mean, quoted, group, change, same in [
            (("pre", "2"), 30.0, (PublishedValue("a", 27.0),), "", None, (False, False)),
            (("post", "2"), 29.5, (PublishedValue("a", 26.4, None, -0.6),), "(A)", -0.5, (False, True)),
            (("pre", "4"), 30.0, (), "(B)", 0.0, (True, False)),
            (("pre", "8"), 31.0, (), "(B)", 1.0, (True, False)),
        ]
    ),
)


def test_a_group_is_named_once_and_prints_only_what_differs() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in format_markdown(GROUPED).splitlines()[2:8]]
    assert rows[0] == ["", "norm", "layers", "BLEU", "change", "BLEU, published", "published change"]
    assert [row[:3] for row in rows[2:]] == [["", "pre", "2"], ["(A)", "post", ""], ["(B)", "", "4"], ["", "", "8"]]
    dash, minus = ABSENT, "\N{MINUS SIGN}"
    assert [row[4] for row in rows[2:]] == [dash, f"{minus}0.50", "0.00", "+1.00"]
    assert [row[6] for row in rows[2:]] == [dash, f"{minus}0.60 [a]", dash, dash]
    assert format_latex(GROUPED).count("\\midrule") == 3
    assert format_html(GROUPED).count("<tbody>") == 3
    full = [row["model.norm_placement"] for row in csv.DictReader(io.StringIO(format_csv(GROUPED)))]
    assert full == ["pre", "post", "pre", "pre"], "a program is not to guess"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed here")
@pytest.mark.parametrize("alone", [True, False])
def test_latex_compiles_as_it_is_and_where_it_is_put_in(tmp_path: Path, alone: bool) -> None:
    (tmp_path / "table.tex").write_text(format_latex(GROUPED) if alone else format_latex(TABLE), encoding="utf-8")
    if not alone:
        head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        (tmp_path / "paper.tex").write_text(rf"{head}\input{{table}}\input{{table}}\end{{document}}")
    name = "table" if alone else "paper"
    told = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name], cwd=tmp_path, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout[-2000:]
    assert not re.search("Overfull|LaTeX Warning", told.stdout), told.stdout[-2000:]
    assert (tmp_path / f"{name}.pdf").stat().st_size > 1000


# What means something to HTML, LaTeX, Markdown or CSV.
HOSTILE = r"""<b>&amp;</b><script>alert(1)</script> \alpha{}$x^2_3$ 5% #1 ~ "q" 'r' a|b a\|b **i** [x] ?` -- << >> \\"""
LETTERS = "äöß é 日本 😀 π ≤ ∑ ж مرحبا"


def hostile(text: str) -> Table:
    """A table that has `text` wherever a person, a run or a publication can put some."""
    cell = Cell(Summary(1.5, 0.5, 3), "1.50", f"(n=3, {text})", f"1 {text}", ("a", "b"), best=True)
    reason = Cell(None, text, "", text, ())
    return Table(
        title=text,
        keys=(RowKey("model.norm_placement", text), RowKey("model.depth")),
        columns=(Column("metrics.test.bleu", text, unit=text, change=True), Column("performance.device")),
        rows=(
            Row(
                (text, "2"),
                (cell, reason),
                ((PublishedValue("a", 1.0, 0.5, 0.1),), ()),
                text,
                (0.5, None),
                (False, False),
            ),
            Row((f"[{text}]", "2"), (reason, cell), ((), ()), f"*{text}", (None, None), (False, True)),
        ),
        notes=(text, f"said: {text}"),
        marks=(("a", text),),
    )


class Reader(HTMLParser):
    """Collects the tags of a page, and the text of each cell and note."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "b":
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


@pytest.mark.parametrize("text", [HOSTILE, LETTERS])
def test_html_shows_every_text_as_it_is(text: str) -> None:
    reader = Reader()
    reader.feed(format_html(hostile(text)))
    assert reader.tags <= {"html", "head", "meta", "title", "style", "body", "h1", "div", "table", "thead", "tbody",
                           "tr", "th", "td", "ul", "li", "b"}  # fmt: skip
    assert not [name for name in reader.attributes if name.startswith("on") or name in ("src", "href", "style")]
    texts = [found.strip() for found in reader.texts]
    for shown in (text, f"[{text}]", f"*{text}", f"{text} ({text})", f"1.50 (n=3, {text})", f"said: {text}"):
        assert shown in texts


def test_a_markdown_cell_holds_every_text(tmp_path: Path) -> None:
    lines = format_markdown(hostile(HOSTILE)).splitlines()
    assert not [line for line in lines if "<" in line]
    table = [line for line in lines if line.startswith("|")]
    # GitHub: a backslash before a pipe or a backslash makes it a letter; every other pipe ends a cell.
    cells = [re.split(r"\|", re.sub(r"\\[\\|*]", "", line)) for line in table]
    assert {len(row) for row in cells} == {len(cells[0])}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed here")
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("text", [HOSTILE, LETTERS])
def test_latex_compiles_with_every_text(tmp_path: Path, text: str, alone: bool) -> None:
    (tmp_path / "table.tex").write_text(format_latex(hostile(text)), encoding="utf-8")
    if not alone:
        head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        (tmp_path / "paper.tex").write_text(rf"{head}\input{{table}}\end{{document}}")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table" if alone else "paper"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert told.returncode == 0, told.stdout[-2000:]
    assert b"Missing character" not in told.stdout


def test_csv_and_json_give_every_text_back() -> None:
    for text in (HOSTILE, LETTERS):
        first, second = csv.DictReader(io.StringIO(format_csv(hostile(text))))
        assert (first["group"], first["model.norm_placement"], first["metrics.test.bleu.missing"]) == (
            text,
            text,
            f"1 {text}",
        )
        assert second["metrics.test.bleu.missing"] == text
        assert json.loads(format_json(hostile(text)))["rows"][0]["labels"]["model.norm_placement"] == text


@pytest.mark.parametrize("render", [render for _, render in FORMATS.values()])
def test_a_table_needs_neither_row_keys_nor_notes(render: object) -> None:
    assert callable(render)
    rows = tuple(dataclasses.replace(row, labels=()) for row in TABLE.rows)
    text = render(dataclasses.replace(TABLE, keys=(), rows=rows, notes=(), marks=()))
    assert "31.25" in text
    assert "minipage" not in text
