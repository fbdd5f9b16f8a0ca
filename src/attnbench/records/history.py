"""history.jsonl: numbers of a run during training, one line per entry."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HISTORY_FILE = "history.jsonl"
AXIS_KEYS = ("update", "epoch", "seconds", "units", "flops")  # possible x axes of curves; all other keys are metrics

_SIGNIFICANT_DIGITS = 7  # the precision of float32
# Names for numbers that JSON lacks; Python's float() and JavaScript's Number() read them.
_NON_FINITE_NAMES = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def append_entry(folder: Path, entry: Mapping[str, float]) -> None:
    """Append a line to the history in a run's folder.

    Args:
        folder: folder of the run.
        entry: `update` (optimizer steps so far), `epoch` (from 1), `seconds` (training and validation so far, all
            sessions), `units` (target tokens or images so far, all ranks), `flops` (so far; absent if unknown), and
            metrics by their logged names.
    """
    with (folder / HISTORY_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({key: _convert_to_json(value) for key, value in entry.items()}) + "\n")


def read_history(folder: Path) -> list[dict[str, float]]:
    """Read the entries in their order; empty if there is no history. Damaged lines are left out."""
    entries = (_parse_numbers(entry) for entry in read_lines(folder / HISTORY_FILE))
    return [entry for entry in entries if entry is not None]


def count_damaged_lines(folder: Path, num_readable: int) -> int:
    """Count damaged lines of a run's history.

    A last line that was cut off is not counted: any killed run may have one.

    Args:
        folder: folder of the run.
        num_readable: number of entries that `read_history` returned.
    """
    try:
        written = (folder / HISTORY_FILE).read_bytes().count(b"\n")
    except OSError:
        return 0
    return max(0, written - num_readable)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects with an `update` from a file of JSON lines; all other lines are left out.

    A killed process or a power loss may leave half a line; another program or a bad disk may leave anything.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.split("\n"):  # str.splitlines would also split at other line separators
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and type(entry.get("update")) in (int, float):
            found.append(entry)
    return found


def truncate_after_update(path: Path, update: int) -> int:
    """Remove entries after `update` from a file of JSON lines, because a resumed run writes them again.

    Damaged lines are removed too.

    Args:
        path: the file.
        update: last update to keep.

    Returns:
        Number of remaining lines.
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
    """Return an entry's values as numbers; None if a value is not a number."""
    try:
        return {key: float(value) for key, value in entry.items()}
    except (TypeError, ValueError, OverflowError):
        return None


def _convert_to_json(value: float) -> float | str:
    if isinstance(value, int):
        return value
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else _NON_FINITE_NAMES[str(value)]
