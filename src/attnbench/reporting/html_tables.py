"""Format a table as an HTML page."""

from __future__ import annotations

from html import escape

from attnbench.reporting.aggregation import Table
from attnbench.reporting.cells import Cell
from attnbench.reporting.grid import BOLD, BOLD_END, build_grid, find_group_starts, list_notes

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; color: #111; background: #fff }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; border-block: 2px solid; font-variant-numeric: tabular-nums }}
th, td {{ padding: .2rem .7rem; text-align: right; white-space: nowrap }}
th {{ border-bottom: 1px solid; vertical-align: bottom }}
.left {{ text-align: left }}
tbody + tbody tr:first-child td {{ border-top: 1px solid #999 }}
li {{ max-width: 60rem; overflow-wrap: anywhere }}
</style></head><body>
"""


def format_html(table: Table) -> str:
    """Format a table as an HTML page; the tooltip of a cell shows its run_ids."""
    grid, starts = build_grid(table), {0, *find_group_starts(table)}
    head = "".join(
        f'<th scope="col" class="{a}">{_escape_html(h)}</th>'
        for a, h in zip(grid.alignments, grid.headings, strict=True)
    )
    lines = []
    for place, row in enumerate(grid.rows):
        lines += ["</tbody>"] * (place in starts and place > 0) + ["<tbody>"] * (place in starts)
        parts = []
        for text, align, cell in zip(row, grid.alignments, grid.cells[place], strict=True):
            parts.append(f'<td class="{align}"{_format_tooltip(cell)}>{_escape_html(text)}</td>')
        lines.append(f"<tr>{''.join(parts)}</tr>")
    notes = "".join(f"<li>{_escape_html(note)}</li>\n" for note in list_notes(table))
    return (
        _PAGE.format(title=escape(table.title))
        + f"<h1>{_escape_html(table.title)}</h1>\n<div><table>\n<thead><tr>{head}</tr></thead>\n"
        + "\n".join([*lines, "</tbody>\n"] if lines else [])
        + f"</table></div>\n<ul>\n{notes}</ul>\n</body></html>\n"
    )


def _format_tooltip(cell: Cell | None) -> str:
    """Format the tooltip of a cell: its runs, and why other runs are missing."""
    if cell is None:
        return ""
    runs = f"runs: {' '.join(cell.run_ids) or 'none'}"
    return f' title="{escape(f"{runs}; {cell.missing}" if cell.missing else runs)}"'


def _escape_html(text: str) -> str:
    return escape(text).replace(BOLD, "<b>").replace(BOLD_END, "</b>")
