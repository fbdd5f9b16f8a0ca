"""Format a table as CSV and JSON, and list the runs behind each cell."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

from attnbench.reporting.aggregation import Row, Table
from attnbench.reporting.grid import has_groups
from attnbench.reporting.layout import Column, Spread


def format_csv(table: Table) -> str:
    """Format a table as CSV, with unscaled numbers in full precision and the run_ids of each number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    headings = ["group"] * has_groups(table) + [key.key for key in table.keys]
    for index, column in enumerate(table.columns):
        parts = ["", ".std", ".n", ".missing", ".run_ids"]
        parts += [".low", ".high"] * (column.spread is Spread.interval)
        parts += [".change"] * column.change + [".published"] * table.has_published(index)
        headings += [column.key + part for part in parts]
    writer.writerow(headings)
    for row in table.rows:
        line: list[object] = [*[row.group] * has_groups(table), *row.labels]
        for index, column in enumerate(table.columns):
            line += _format_csv_cell(row, index, column)
            if table.has_published(index):
                line.append(" ".join(repr(quoted.value) for quoted in row.published[index]))
        writer.writerow(line)
    return out.getvalue()


def format_json(table: Table) -> str:
    """Format a table as JSON: all content, unscaled numbers, one row per line."""
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


def format_trace(table: Table) -> str:
    """List the runs behind each cell, and why other runs are missing; one line per cell."""
    lines = []
    for row in table.rows:
        named = zip(table.keys, row.printed_labels, strict=True)
        where = ", ".join(f"{key.label or key.key} {text}" for key, text in named if text)
        for column, cell in zip(table.columns, row.cells, strict=True):
            runs = " ".join(cell.run_ids) or "none"
            lines.append(
                f"{where or 'baseline'}: {column.heading}: {runs}{f' ({cell.missing})' if cell.missing else ''}"
            )
    return "\n".join(lines) + "\n"


def _format_csv_cell(row: Row, index: int, column: Column) -> list[object]:
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
