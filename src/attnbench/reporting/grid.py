"""A table as headings and rows of text, before any format's escaping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attnbench.reporting.aggregation import Quoted, Table
from attnbench.reporting.cells import Cell, number_text, signed
from attnbench.reporting.layout import Column
from attnbench.reporting.runs import ABSENT

# Characters that no text has stand for bold until the format's own escaping is done.
BOLD, END = "\ue000", "\ue001"


@dataclass(frozen=True)
class Grid:
    """What is printed where."""

    headings: list[str]
    rows: list[list[str]]
    align: list[str]  # of each column: left or right
    cells: list[list[Cell | None]]  # of each place the runs it was made of, if it was


def build_grid(table: Table) -> Grid:
    """Headings, rows of cells, and alignments; a published number and how far it is from ours stand behind ours."""
    columns: list[tuple[str, str, list[str], list[Cell | None]]] = []

    def add(heading: str, texts: Sequence[str], cells: Sequence[Cell] = (), align: str = "right") -> None:
        columns.append((heading, align, list(texts), list(cells) or [None] * len(table.rows)))

    if is_grouped(table):
        starts = {0, *breaks(table)}
        add("", [row.group if place in starts else "" for place, row in enumerate(table.rows)], align="left")
    for index, key in enumerate(table.keys):
        add(key.label or key.key, [row.shown[index] for row in table.rows], align="left")
    for index, column in enumerate(table.columns):
        cells = [row.cells[index] for row in table.rows]
        add(column.heading, [_shown(cell) for cell in cells], cells)
        if column.change:
            add("change", [_signed(row.changes[index], column) for row in table.rows])
        if table.has_published(index):
            quoted = [row.published[index] for row in table.rows]
            add(f"{column.heading}, published", _each(quoted, lambda q, c=column: number_text(q.value, c)))  # type: ignore[misc]
            if column.change:
                add("published change", _each(quoted, lambda q, c=column: _signed(q.change, c)))  # type: ignore[misc]
            if table.has_difference(index):
                add("ours less published", _each(quoted, lambda q, c=column: _signed(q.difference, c)))  # type: ignore[misc]
    headings, align, texts, made = (list(part) for part in zip(*columns, strict=True))
    return Grid(
        headings, [list(r) for r in zip(*texts, strict=True)], align, [list(r) for r in zip(*made, strict=True)]
    )


def notes_of(table: Table) -> list[str]:
    """What a reader must know, and the sources of published numbers."""
    return [*table.notes, *(f"[{mark}] {text}" for mark, text in table.marks)]


def is_grouped(table: Table) -> bool:
    """Whether rows stand in groups."""
    return any(row.group for row in table.rows)


def breaks(table: Table) -> list[int]:
    """Places of the rows that begin another group."""
    groups = [row.group for row in table.rows]
    return [place for place in range(1, len(groups)) if groups[place] != groups[place - 1]]


def _shown(cell: Cell) -> str:
    value = f"{cell.value}{'*' * cell.differs}"
    return f"{f'{BOLD}{value}{END}' if cell.best else value} {cell.spread}".rstrip()


def _signed(value: float | None, column: Column) -> str:
    """A difference, or a dash."""
    return ABSENT if value is None else signed(value, column)


def _each(quoted: Sequence[Sequence[Quoted]], text: Callable[[Quoted], str]) -> list[str]:
    """In each row what `text` says of each source's number, with the source's mark; a dash where it says nothing."""
    found = [[(text(one), one.mark) for one in row] for row in quoted]
    return [", ".join(f"{said} [{mark}]" for said, mark in row if said != ABSENT) or ABSENT for row in found]
