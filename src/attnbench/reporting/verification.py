"""Render the committed tables and figures of experiments again, and compare them with the committed files."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnbench.records.record import RECORD_FILE, RecordError
from attnbench.reporting.formats import FORMATS
from attnbench.reporting.tables import load_table, save_table

RESULTS_FOLDER = "results"  # in the folder of an experiment: records, and what was rendered from them
_TABLE = "table"
_TOLERANCE = 1e-9  # relative: another processor may round the last digits differently


def list_results(experiments: Path) -> list[Path]:
    """List the experiments that have committed records."""
    return sorted(path.parent for path in experiments.glob(f"*/{RESULTS_FOLDER}") if any(path.glob(f"*/{RECORD_FILE}")))


def write_results(experiment: Path) -> None:
    """Render the table and the figures of an experiment into its folder of results.

    Args:
        experiment: folder of the experiment, such as experiments/heads.

    Raises:
        RecordError: see `load_table`.
    """
    folder = experiment / RESULTS_FOLDER
    save_table(load_table(folder, experiment.parent, experiment.name), folder)


def find_differences(experiment: Path) -> Iterator[str]:
    """Yield a sentence for each difference between the committed results and those that the records give.

    Args:
        experiment: folder of the experiment.
    """
    committed = experiment / RESULTS_FOLDER
    with tempfile.TemporaryDirectory() as temporary:
        rendered = Path(temporary)
        try:
            save_table(load_table(committed, experiment.parent, experiment.name), rendered)
        except RecordError as error:
            yield str(error)
            return
        cells = list(_compare_cells(committed / f"{_TABLE}.json", rendered / f"{_TABLE}.json"))
        yield from cells
        texts = {f"{_TABLE}{suffix}" for suffix, _ in FORMATS.values()} - {f"{_TABLE}.json"}
        figures = {path.name for folder in (committed, rendered) for path in folder.glob("*.p[nd][gf]")}
        for name in sorted(texts | figures):
            if name in texts and cells:
                continue  # the cells are named above
            if not (committed / name).is_file():
                yield f"{committed / name}: missing"
            elif not (rendered / name).is_file():
                yield f"{committed / name}: the records give no such file"
            elif (committed / name).read_bytes() != (rendered / name).read_bytes():
                yield f"{committed / name}: the records give other content"


def _compare_cells(committed: Path, rendered: Path) -> Iterator[str]:
    """Compare two tables in JSON cell by cell."""
    try:
        ours = json.loads(committed.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        yield f"{committed}: cannot be read: {error}"
        return
    theirs = json.loads(rendered.read_text(encoding="utf-8"))
    if len(ours.get("rows", [])) != len(theirs["rows"]):
        yield f"{committed}: {len(ours.get('rows', []))} rows, and the records give {len(theirs['rows'])}"
        return
    for old, new in zip(ours["rows"], theirs["rows"], strict=True):
        name = ", ".join(f"{key}={label}" for key, label in new["labels"].items()) or "the only row"
        if old["labels"] != new["labels"]:
            yield f"{committed}: row {name}: the committed row is {old['labels']}"
            continue
        for key in dict.fromkeys([*old["cells"], *new["cells"]]):
            before, after = old["cells"].get(key), new["cells"].get(key)
            if not _is_same(before, after):
                values = f"{_format_cell(before)}, and the records give {_format_cell(after)}"
                yield f"{committed}: row {name}, column {key}: {values}"
    for part in ("title", "notes", "sources"):
        if not _is_same(ours.get(part), theirs[part]):
            yield f"{committed}: {part}: {_find_first_difference(ours.get(part), theirs[part])}"


def _is_same(ours: Any, theirs: Any) -> bool:
    """Return True if two JSON values are equal, except for the last digits of numbers."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_is_same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_is_same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=_TOLERANCE)
    return bool(ours == theirs)


def _format_cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "no cell"
    marks = "*" * cell["differs"] + " (bold)" * cell["best"]
    return f"{cell['value']} {cell['spread']}{marks}".strip() or "an empty cell"


def _find_first_difference(ours: Any, theirs: Any) -> str:
    """Describe the first difference of two lists or texts."""
    if isinstance(ours, list) and isinstance(theirs, list):
        for before, after in zip(ours, theirs, strict=False):
            if before != after:
                return f"{before!r}, and the records give {after!r}"
        return f"{len(ours)} entries, and the records give {len(theirs)}"
    return f"{ours!r}, and the records give {theirs!r}"
