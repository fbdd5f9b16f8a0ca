"""Arrange a table as headings and rows of text, before a format escapes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnbench.reporting.aggregation import Table
from attnbench.reporting.cells import Cell, format_number, format_signed
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import ABSENT

# Private-use characters that mark bold text until a format has escaped the text.
BOLD, BOLD_END = "\ue000", "\ue001"


@dataclass(frozen=True)
class Grid:
    """Headings and cells of a table as text."""

    headings: list[str]
    rows: list[list[str]]
    alignments: list[str]  # for each column: left or right
    cells: list[list[Cell | None]]  # for each position the cell it shows, if any


def build_grid(table: Table) -> Grid:
    """Arrange headings, rows and alignments.

    Published numbers, and their difference to ours, stand in columns behind ours.
    """
    columns: list[tuple[str, str, list[str], list[Cell | None]]] = []

    def add(heading: str, texts: Sequence[str], cells: Sequence[Cell] = (), align: str = "right") -> None:
        columns.append((heading, align, list(texts), list(cells) or [None] * len(table.rows)))

    if has_groups(table):
        starts = {0, *find_group_starts(table)}
        add("", [row.group if place in starts else "" for place, row in enumerate(table.rows)], align="left")
    for index, key in enumerate(table.keys):
        add(key.label or key.key, [row.printed_labels[index] for row in table.rows], align="left")
    for index, column in enumerate(table.columns):
        cells = [row.cells[index] for row in table.rows]
        add(column.heading, [_format_cell(cell) for cell in cells], cells)
        if column.change:
            add("change", [_format_change(row.changes[index], column) for row in table.rows])
        if table.has_published(index):
            quoted = [row.published[index] for row in table.rows]
            values = [[(one.source_mark, format_number(one.value, column)) for one in row] for row in quoted]
            add(f"{column.heading}, published", _format_published(values))
            if column.change:
                changes = [[(one.source_mark, _format_change(one.change, column)) for one in row] for row in quoted]
                add("published change", _format_published(changes))
            if table.has_difference(index):
                differences = [
                    [(one.source_mark, _format_change(one.difference, column)) for one in row] for row in quoted
                ]
                add("ours less published", _format_published(differences))
    headings, align, texts, made = (list(part) for part in zip(*columns, strict=True))
    return Grid(
        headings, [list(r) for r in zip(*texts, strict=True)], align, [list(r) for r in zip(*made, strict=True)]
    )


def list_notes(table: Table) -> list[str]:
    """Return the table's notes, then the sources of published numbers."""
    return [*table.notes, *(f"[{mark}] {text}" for mark, text in table.marks)]


def has_groups(table: Table) -> bool:
    """Return True if the table has groups of rows."""
    return any(row.group for row in table.rows)


def find_group_starts(table: Table) -> list[int]:
    """Return the indices of rows that begin another group."""
    groups = [row.group for row in table.rows]
    return [place for place in range(1, len(groups)) if groups[place] != groups[place - 1]]


def _format_cell(cell: Cell) -> str:
    value = f"{cell.value}{'*' * cell.differs}"
    return f"{f'{BOLD}{value}{BOLD_END}' if cell.best else value} {cell.spread}".rstrip()


def _format_change(value: float | None, column: Column) -> str:
    """Format a difference; a dash if there is none."""
    return ABSENT if value is None else format_signed(value, column)


def _format_published(rows: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    """Format the (source mark, number) pairs of each row; a dash if there are none."""
    return [", ".join(f"{text} [{mark}]" for mark, text in row if text != ABSENT) or ABSENT for row in rows]
