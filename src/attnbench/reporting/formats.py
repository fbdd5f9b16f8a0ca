"""A table as Markdown and as LaTeX (booktabs), and the names of all formats."""

from __future__ import annotations

import re
from collections.abc import Callable

from tabulate import LATEX_ESCAPE_RULES, tabulate

from attnbench.reporting.aggregation import Table
from attnbench.reporting.cells import MINUS
from attnbench.reporting.exports import csv_text, json_text
from attnbench.reporting.figures import Figure
from attnbench.reporting.grid import BOLD, END, breaks, build_grid, notes_of
from attnbench.reporting.html_tables import html
from attnbench.reporting.runs import ABSENT

_WIDE = 10  # columns from which on a page of its own lies on its side
_LONG = 12  # characters from which on a heading stands in two lines
_STACK, _NEXT = "\ue002", "\ue003"  # like BOLD: around such a heading, and between its lines
# What LaTeX writes in its own way, beyond what tabulate escapes; its default fonts have no bar.
_LATEX = {
    "±": r"$\pm$", ABSENT: "--", MINUS: "$-$", "|": r"\textbar{}", "\N{MULTIPLICATION SIGN}": r"$\times$",
    BOLD: r"\textbf{", _STACK: r"\shortstack{", _NEXT: r"\\", END: "}",
}  # fmt: skip
# \@nodocument is let to \relax where a document has begun.
_HEAD = r"""%% \input{} it where \usepackage{booktabs,graphicx} is, or run pdflatex on it as it is.
\expandafter\ifx\csname @nodocument\endcsname\relax\else
\documentclass[a4paper]{article}\usepackage[margin=2cm%s]{geometry}
\usepackage{booktabs,graphicx}\pagestyle{empty}\def\attnbenchend{\end{document}}\begin{document}
\fi"""
_TAIL = r"\csname attnbenchend\endcsname"
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # no wider than the page


def markdown(table: Table) -> str:
    """A heading, a pipe table, the notes as a list, and the figures, which lie beside it."""
    grid = build_grid(table)
    body = tabulate(
        [[_pipe(cell) for cell in row] for row in grid.rows],
        headers=[_pipe(heading) for heading in grid.headings],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=grid.align,
    )
    notes = "".join(f"- {_inline(note)}\n" for note in notes_of(table))
    figures = "".join(f"\n{_picture(figure)}\n" for figure in table.figures)
    return f"## {_inline(table.title)}\n\n{body}\n" + (f"\n{notes}" if notes else "") + figures


def latex(table: Table) -> str:
    r"""A table float to be \input where booktabs and graphicx are loaded, which pdflatex also takes as it is."""
    grid = build_grid(table)
    rows = [[" ".join(cell.split()) for cell in row] for row in grid.rows]
    headings = [_stacked(heading) for heading in grid.headings]
    body = tabulate(rows, headers=headings, tablefmt="latex_booktabs", disable_numparse=True, colalign=grid.align)
    # A row that begins with [ or * would be taken for an argument of the line break before it.
    lines = re.sub(r"^ (?=[\[*])", " {}", body, flags=re.MULTILINE).split("\n")
    first = lines.index("\\midrule") + 1
    for place in reversed(breaks(table)):
        lines.insert(first + place, "\\midrule")
    notes = "".join(f"{_tex(note)}\\par\n" for note in notes_of(table))
    caption, content = _tex(table.title), _typeset("\n".join(lines))
    parts = [
        _HEAD % (",landscape" if len(headings) > _WIDE else ""),
        *_unknown_letters(caption + content + notes),
        "\\begin{table}",
        "\\centering\\small",
        f"\\caption{{{caption}}}\\smallskip",
        f"{_FIT}\n{content}}}",
        f"\\par\\medskip\n\\begin{{minipage}}{{\\linewidth}}\\footnotesize\\raggedright\n{notes}\\end{{minipage}}"
        if notes
        else "",
        "\\end{table}",
        _TAIL,
    ]
    return "\n".join(part for part in parts if part) + "\n"


# What each format's file ends in, and what writes it.
FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "markdown": (".md", markdown),
    "csv": (".csv", csv_text),
    "latex": (".tex", latex),
    "html": (".html", html),
    "json": (".json", json_text),
}


def _stacked(heading: str) -> str:
    """A long heading in two lines, about as long as each other."""
    words = heading.split()
    if len(heading) <= _LONG or len(words) < 2:
        return heading
    cut = min(range(1, len(words)), key=lambda at: abs(len(" ".join(words[:at])) - len(" ".join(words[at:]))))
    return f"{_STACK}{' '.join(words[:cut])}{_NEXT}{' '.join(words[cut:])}{END}"


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
    """Return text that does not end a cell, and in which stars and backslashes are what they are."""
    return (
        _inline(text)
        .replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("*", "\\*")
        .replace(BOLD, "**")
        .replace(END, "**")
    )


def _tex(text: str) -> str:
    return _typeset("".join(LATEX_ESCAPE_RULES.get(char, char) for char in " ".join(text.split())))


def _unknown_letters(text: str) -> list[str]:
    """Write definitions of letters that pdflatex may not know, so that they are shown by their code and stop nothing.

    Letters that the document or its packages have defined stay as they are; XeLaTeX and LuaLaTeX need none of this.
    """
    letters = sorted({char for char in text if not char.isascii()})
    return [
        rf"\expandafter\ifx\csname u8:\detokenize{{{char}}}\endcsname\relax"
        rf"\expandafter\gdef\csname u8:\detokenize{{{char}}}\endcsname{{{{\ttfamily U+{ord(char):04X}}}}}\fi"
        for char in letters
    ]


def _typeset(escaped: str) -> str:
    for char, command in _LATEX.items():
        escaped = escaped.replace(char, command)
    return escaped
