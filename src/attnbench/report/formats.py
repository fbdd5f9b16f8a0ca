"""A table as Markdown, as CSV and as LaTeX (booktabs)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

from tabulate import LATEX_ESCAPE_RULES, tabulate

from attnbench.report.aggregate import Table
from attnbench.report.cells import Cell, number_text
from attnbench.report.figures import Figure
from attnbench.report.runs import ABSENT

# Characters that no text has stand for bold until the format's own escaping is done.
_BOLD, _END = "\ue000", "\ue001"
# What LaTeX writes in its own way, beyond what tabulate escapes; its default fonts have no bar.
_LATEX = {"±": r"$\pm$", ABSENT: "--", "|": r"\textbar{}", _BOLD: r"\textbf{", _END: "}"}


def markdown(table: Table) -> str:
    """A heading, a pipe table, the notes as a list, and the figures, which lie beside it."""
    headings, rows, align = _grid(table)
    body = tabulate(
        [[_pipe(cell) for cell in row] for row in rows],
        headers=[_pipe(heading) for heading in headings],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=align,
    )
    notes = "".join(f"- {_inline(note)}\n" for note in _all_notes(table))
    figures = "".join(f"\n{_picture(figure)}\n" for figure in table.figures)
    return f"## {_inline(table.title)}\n\n{body}\n" + (f"\n{notes}" if notes else "") + figures


def latex(table: Table) -> str:
    r"""A table float; needs \usepackage{booktabs}."""
    headings, rows, align = _grid(table)
    body = tabulate(rows, headers=headings, tablefmt="latex_booktabs", disable_numparse=True, colalign=align)
    # A row that begins with [ or * would be taken for an argument of the line break before it.
    body = re.sub(r"^ (?=[\[*])", " {}", body, flags=re.MULTILINE)
    notes = "".join(f"{_tex(note)}\\par\n" for note in _all_notes(table))
    parts = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering\\small",
        f"\\caption{{{_tex(table.title)}}}",
        _typeset(body),
        f"\\par\\medskip\n\\begin{{minipage}}{{\\linewidth}}\\footnotesize\n{notes}\\end{{minipage}}" if notes else "",
        "\\end{table}",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def csv_text(table: Table) -> str:
    """Keys as headings, numbers in full and unscaled, and the runs behind each row at its end."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    headings = [key.key for key in table.keys]
    for index, column in enumerate(table.columns):
        headings += [column.key, f"{column.key}.std", f"{column.key}.n", f"{column.key}.missing"]
        headings += [f"{column.key}.published"] * table.has_published(index)
    writer.writerow([*headings, "run_ids"])
    for row in table.rows:
        line: list[object] = [*row.labels]
        for index, cell in enumerate(row.cells):
            line += _csv_cell(cell)
            if table.has_published(index):
                line.append(" ".join(repr(value) for _, value in row.published[index]))
        run_ids = {run_id: None for cell in row.cells for run_id in cell.run_ids}
        writer.writerow([*line, " ".join(run_ids)])
    return out.getvalue()


# What each format's file is called, and what writes it.
FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "markdown": ("table.md", markdown),
    "csv": ("table.csv", csv_text),
    "latex": ("table.tex", latex),
}


def _grid(table: Table) -> tuple[list[str], list[list[str]], list[str]]:
    """Headings, rows of cells, and alignments; a published number stands behind ours."""
    columns = [
        (key.label or key.key, "left", [row.labels[index] for row in table.rows])
        for index, key in enumerate(table.keys)
    ]
    for index, column in enumerate(table.columns):
        columns.append((column.heading, "right", [_shown(row.cells[index]) for row in table.rows]))
        if table.has_published(index):
            quoted = [
                ", ".join(f"{number_text(value, column)} [{mark}]" for mark, value in row.published[index])
                for row in table.rows
            ]
            columns.append((f"{column.heading}, published", "right", [text or ABSENT for text in quoted]))
    headings, align, cells = (list(part) for part in zip(*columns, strict=True))
    return headings, [list(row) for row in zip(*cells, strict=True)], align


def _shown(cell: Cell) -> str:
    value = f"{_BOLD}{cell.value}{_END}" if cell.best else cell.value
    return f"{value} {cell.spread}".rstrip()


def _all_notes(table: Table) -> list[str]:
    return [*table.notes, *(f"[{mark}] {text}" for mark, text in table.marks)]


def _csv_cell(cell: Cell) -> list[object]:
    if cell.summary is None:
        return [cell.value if cell.run_ids else "", "", len(cell.run_ids), cell.missing]
    std = "" if cell.summary.std is None else repr(cell.summary.std)
    return [repr(cell.summary.mean), std, cell.summary.n, cell.missing]


def _picture(figure: Figure) -> str:
    """A figure and what a reader must know of it, or why there is none."""
    name, notes = figure.layout.name, _inline(" ".join(figure.notes))
    if figure.empty:
        return f"Figure {name}: {notes}"
    return f"![{_inline(figure.layout.title or name)}]({name}.png)\n\n{notes}"


def _inline(text: str) -> str:
    """Text of one line that does not begin HTML."""
    return " ".join(text.split()).replace("<", "&lt;")


def _pipe(text: str) -> str:
    """Text that does not end a cell."""
    return _inline(text).replace("|", "\\|").replace(_BOLD, "**").replace(_END, "**")


def _tex(text: str) -> str:
    return _typeset("".join(LATEX_ESCAPE_RULES.get(char, char) for char in " ".join(text.split())))


def _typeset(escaped: str) -> str:
    for char, command in _LATEX.items():
        escaped = escaped.replace(char, command)
    return escaped
