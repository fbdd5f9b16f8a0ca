"""Format a table as an HTML page."""

from __future__ import annotations

import itertools

from attnbench.reporting.aggregation import Table
from attnbench.reporting.cells import Cell
from attnbench.reporting.grid import build_grid, find_group_starts, list_notes
from attnbench.reporting.templates import fill_template


def format_html(table: Table) -> str:
    """Format a table as an HTML page; the tooltip of a cell shows its run_ids."""
    grid = build_grid(table)
    rows = [
        [
            {"text": text, "alignment": alignment, "tooltip": _format_tooltip(cell)}
            for text, alignment, cell in zip(texts, grid.alignments, cells, strict=True)
        ]
        for texts, cells in zip(grid.rows, grid.cells, strict=True)
    ]
    starts = [0, *find_group_starts(table), len(rows)]
    return fill_template(
        "table.html",
        title=table.title,
        headings=grid.headings,
        alignments=grid.alignments,
        groups=[rows[start:end] for start, end in itertools.pairwise(starts) if rows],
        notes=list_notes(table),
    )


def _format_tooltip(cell: Cell | None) -> str:
    """Format the tooltip of a cell: its runs, and why other runs are missing."""
    if cell is None:
        return ""
    runs = f"runs: {' '.join(cell.run_ids) or 'none'}"
    return f"{runs}; {cell.missing}" if cell.missing else runs
