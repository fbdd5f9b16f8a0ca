"""history.jsonl: how a run's numbers went while it trained, a line an entry."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HISTORY_FILE = "history.jsonl"
AXIS_KEYS = ("update", "epoch", "seconds", "units", "flops")  # what a curve can be drawn against; the rest are metrics

_SIGNIFICANT_DIGITS = 7  # as many as a float32 has
# JSON has no such numbers; these are the names that Python's float() and JavaScript's Number() read.
_NON_FINITE_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def append_entry(folder: Path, entry: Mapping[str, float]) -> None:
    """Add a line to the history in a run's folder.

    `update`: optimizer steps so far; `epoch`, counted from 1; `seconds` of training and validation so far, all sessions
    together; `units`: target tokens or pictures trained on so far, over all ranks; `flops` of training on them, absent
    if unknown; all others are metrics by the name that they are logged under.
    """
    with (folder / HISTORY_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({key: _convert_to_json(value) for key, value in entry.items()}) + "\n")


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read the entries in the order they were made; none where there is no history. Damaged lines are left out."""
    entries = (_parse_numbers(entry) for entry in read_lines(folder / HISTORY_FILE))
    return [entry for entry in entries if entry is not None]


def count_damaged_lines(folder: Path, num_readable: int) -> int:
    """Count the lines of a run's history beyond those `readable` ones that `read_history` returned.

    A last line that was cut short is not counted: any run that was killed may have one.
    """
    try:
        written = (folder / HISTORY_FILE).read_bytes().count(b"\n")
    except OSError:
        return 0
    return max(0, written - num_readable)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects with an `update` in a file of JSON lines; other lines are left out, wherever they stand.

    A kill or a power loss may leave half a line; another program, or a bad disk, anything.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.split("\n"):  # splitlines would part texts that hold other ends of lines
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and type(entry.get("update")) in (int, float):
            found.append(entry)
    return found


def truncate_after_update(path: Path, update: int) -> int:
    """Take out of a file of JSON lines what came after `update`, since a run goes on from there and writes it again.

    Damaged lines go too; what a damaged line is depends on the file: the history has numbers alone.

    Returns:
        The number of lines that are left.
    """
    if not path.is_file():
        return 0
    kept = [entry for entry in read_lines(path) if entry["update"] <= update]
    if path.name == HISTORY_FILE:
        kept = [entry for entry in kept if _parse_numbers(entry) is not None]
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text("".join(f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in kept), encoding="utf-8")
    os.replace(draft, path)
    return len(kept)


def _parse_numbers(entry: Mapping[str, Any]) -> dict[str, float] | None:
    """Return an entry's values as numbers; None where one of them is none."""
    try:
        return {key: float(value) for key, value in entry.items()}
    except (TypeError, ValueError, OverflowError):
        return None


def _convert_to_json(value: float) -> float | str:
    if isinstance(value, int):
        return value
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else _NON_FINITE_NAMES[str(value)]
