"""A table for other programs, and where each number comes from: CSV, JSON, and a line a cell."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

from attnbench.reporting.aggregation import Row, Table
from attnbench.reporting.grid import is_grouped
from attnbench.reporting.layout import Column, Spread


def csv_text(table: Table) -> str:
    """Keys as headings, numbers in full and unscaled, and behind each number the runs it is made of."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    headings = ["group"] * is_grouped(table) + [key.key for key in table.keys]
    for index, column in enumerate(table.columns):
        parts = ["", ".std", ".n", ".missing", ".run_ids"]
        parts += [".low", ".high"] * (column.spread is Spread.interval)
        parts += [".change"] * column.change + [".published"] * table.has_published(index)
        headings += [column.key + part for part in parts]
    writer.writerow(headings)
    for row in table.rows:
        line: list[object] = [*[row.group] * is_grouped(table), *row.labels]
        for index, column in enumerate(table.columns):
            line += _csv_cell(row, index, column)
            if table.has_published(index):
                line.append(" ".join(repr(quoted.value) for quoted in row.published[index]))
        writer.writerow(line)
    return out.getvalue()


def json_text(table: Table) -> str:
    """All that the table holds, numbers unscaled, for other programs; a row a line."""
    rows = []
    for row in table.rows:
        cells = {}
        for index, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
            change = row.changes[index] if row.changes else None
            held = dataclasses.asdict(cell) | {"change": change}
            cells[column.key] = held | {"published": [dataclasses.asdict(quoted) for quoted in row.published[index]]}
        labels = {key.key: label for key, label in zip(table.keys, row.labels, strict=True)}
        rows.append({"group": row.group, "labels": labels, "cells": cells})
    held = {"title": table.title, "notes": table.notes, "sources": dict(table.marks)}
    head = json.dumps(held, indent=1, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f'{head},\n "rows": [\n{lines}\n]}}\n'


def trace(table: Table) -> str:
    """Of each cell the runs that its number is made of, and why others are not in it: a line a cell."""
    lines = []
    for row in table.rows:
        named = zip(table.keys, row.shown, strict=True)
        where = ", ".join(f"{key.label or key.key} {text}" for key, text in named if text)
        for column, cell in zip(table.columns, row.cells, strict=True):
            runs = " ".join(cell.run_ids) or "none"
            lines.append(
                f"{where or 'baseline'}: {column.heading}: {runs}{f' ({cell.missing})' if cell.missing else ''}"
            )
    return "\n".join(lines) + "\n"


def _csv_cell(row: Row, index: int, column: Column) -> list[object]:
    cell, summary = row.cells[index], row.cells[index].summary
    if summary is None:
        found: list[object] = [cell.value if cell.run_ids else "", "", len(cell.run_ids), cell.missing]
    else:
        std = "" if summary.std is None else repr(summary.std)
        found = [repr(summary.mean), std, summary.n, cell.missing]
    found.append(" ".join(cell.run_ids))
    if column.spread is Spread.interval:
        found += ["", ""] if summary is None or summary.interval is None else map(repr, summary.interval)
    if column.change:
        change = row.changes[index]
        found.append("" if change is None else repr(change))
    return found
