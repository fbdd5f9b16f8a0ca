"""Format a table as Markdown and LaTeX (booktabs), and list all formats."""

from __future__ import annotations

import re
from collections.abc import Callable

from tabulate import LATEX_ESCAPE_RULES, tabulate

from attnbench.reporting.aggregation import Table
from attnbench.reporting.cells import MINUS
from attnbench.reporting.exports import format_csv, format_json
from attnbench.reporting.figures import Figure
from attnbench.reporting.grid import BOLD, BOLD_END, build_grid, find_group_starts, list_notes
from attnbench.reporting.html_tables import format_html
from attnbench.reporting.runs import ABSENT

_LANDSCAPE_COLUMNS = 10  # with more columns the page is in landscape
_MAX_HEADING_LENGTH = 12  # longer headings are split into two lines
_STACK, _NEXT = "\ue002", "\ue003"  # markers like BOLD: around such a heading, and between its lines
# Replacements beyond those of tabulate; LaTeX's default fonts have no bar.
_LATEX = {
    "±": r"$\pm$", ABSENT: "--", MINUS: "$-$", "|": r"\textbar{}", "\N{MULTIPLICATION SIGN}": r"$\times$",
    BOLD: r"\textbf{", _STACK: r"\shortstack{", _NEXT: r"\\", BOLD_END: "}",
}  # fmt: skip
# \@nodocument is let to \relax where a document has begun.
_HEAD = r"""%% \input{} it where \usepackage{booktabs,graphicx} is, or run pdflatex on it as it is.
\expandafter\ifx\csname @nodocument\endcsname\relax\else
\documentclass[a4paper]{article}\usepackage[margin=2cm%s]{geometry}
\usepackage{booktabs,graphicx}\pagestyle{empty}\def\attnbenchend{\end{document}}\begin{document}
\fi"""
_TAIL = r"\csname attnbenchend\endcsname"
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # scaled down to the page's width if needed


def format_markdown(table: Table) -> str:
    """Format a table as Markdown: heading, pipe table, list of notes, and links to the figures."""
    grid = build_grid(table)
    body = tabulate(
        [[_escape_pipe_cell(cell) for cell in row] for row in grid.rows],
        headers=[_escape_pipe_cell(heading) for heading in grid.headings],
        tablefmt="pipe",
        disable_numparse=True,
        colalign=grid.alignments,
    )
    notes = "".join(f"- {_escape_markdown(note)}\n" for note in list_notes(table))
    figures = "".join(f"\n{_format_figure(figure)}\n" for figure in table.figures)
    return f"## {_escape_markdown(table.title)}\n\n{body}\n" + (f"\n{notes}" if notes else "") + figures


def format_latex(table: Table) -> str:
    r"""Format a table as a LaTeX table float.

    The file can be read with \input in a document that loads booktabs and graphicx, and pdflatex also compiles it
    alone.
    """
    grid = build_grid(table)
    rows = [[" ".join(cell.split()) for cell in row] for row in grid.rows]
    headings = [_split_heading(heading) for heading in grid.headings]
    body = tabulate(rows, headers=headings, tablefmt="latex_booktabs", disable_numparse=True, colalign=grid.alignments)
    # LaTeX would read [ or * at the start of a row as an argument of the line break before it.
    lines = re.sub(r"^ (?=[\[*])", " {}", body, flags=re.MULTILINE).split("\n")
    first = lines.index("\\midrule") + 1
    for place in reversed(find_group_starts(table)):
        lines.insert(first + place, "\\midrule")
    notes = "".join(f"{_escape_latex(note)}\\par\n" for note in list_notes(table))
    caption, content = _escape_latex(table.title), _replace_symbols("\n".join(lines))
    parts = [
        _HEAD % (",landscape" if len(headings) > _LANDSCAPE_COLUMNS else ""),
        *_define_unknown_characters(caption + content + notes),
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


# For each format: file suffix, and function that formats a table.
FORMATS: dict[str, tuple[str, Callable[[Table], str]]] = {
    "markdown": (".md", format_markdown),
    "csv": (".csv", format_csv),
    "latex": (".tex", format_latex),
    "html": (".html", format_html),
    "json": (".json", format_json),
}


def _split_heading(heading: str) -> str:
    """Split a long heading into two lines of similar length."""
    words = heading.split()
    if len(heading) <= _MAX_HEADING_LENGTH or len(words) < 2:
        return heading
    cut = min(range(1, len(words)), key=lambda at: abs(len(" ".join(words[:at])) - len(" ".join(words[at:]))))
    return f"{_STACK}{' '.join(words[:cut])}{_NEXT}{' '.join(words[cut:])}{BOLD_END}"


def _format_figure(figure: Figure) -> str:
    """Format the link to a figure, or the reason why there is none."""
    name, notes = figure.layout.name, _escape_markdown(" ".join(figure.notes))
    if figure.is_empty:
        return f"Figure {name}: {notes}"
    return f"![{_escape_markdown(figure.layout.title or name)}]({name}.png)\n\n{notes}"


def _escape_markdown(text: str) -> str:
    """Text of one line that does not begin HTML."""
    return " ".join(text.split()).replace("<", "&lt;")


def _escape_pipe_cell(text: str) -> str:
    """Return text that does not end a cell, and in which stars and backslashes are what they are."""
    return (
        _escape_markdown(text)
        .replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("*", "\\*")
        .replace(BOLD, "**")
        .replace(BOLD_END, "**")
    )


def _escape_latex(text: str) -> str:
    return _replace_symbols("".join(LATEX_ESCAPE_RULES.get(char, char) for char in " ".join(text.split())))


def _define_unknown_characters(text: str) -> list[str]:
    """Write LaTeX definitions for characters that pdflatex may not know, so that their code point is shown.

    Characters that the document or its packages define stay as they are; XeLaTeX and LuaLaTeX need no definitions.
    """
    letters = sorted({char for char in text if not char.isascii()})
    return [
        rf"\expandafter\ifx\csname u8:\detokenize{{{char}}}\endcsname\relax"
        rf"\expandafter\gdef\csname u8:\detokenize{{{char}}}\endcsname{{{{\ttfamily U+{ord(char):04X}}}}}\fi"
        for char in letters
    ]


def _replace_symbols(escaped: str) -> str:
    for char, command in _LATEX.items():
        escaped = escaped.replace(char, command)
    return escaped
