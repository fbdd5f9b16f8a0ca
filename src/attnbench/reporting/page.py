"""Write one HTML file to compare the runs of sweeps. The file holds all data: it needs no server and no network."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from attnbench.data.text_files import split_lines
from attnbench.records.history import HISTORY_FILE, count_damaged_lines, read_history
from attnbench.records.record import RECORD_FILE, Record, RecordError
from attnbench.reporting.aggregation import Table, build_default_columns
from attnbench.reporting.attention_figures import READ_ERRORS
from attnbench.reporting.cells import format_number, is_number
from attnbench.reporting.runs import Run, collect_runs, flatten_config, load_records, read_sweep_plan
from attnbench.reporting.tables import load_table
from attnbench.reporting.templates import fill_template

_MAX_LOG_LINES, _MAX_LOG_BYTES = 60, 2**16  # of the end of a run's log that is shown
_RESULT_GROUPS = ("metrics.test", "metrics.best", "metrics.final", "parameters", "performance", "time")
_NO_VALUE_INDEX = -1


@dataclass(frozen=True)
class PageSources:
    """Runs and their folders."""

    runs: list[Run]
    folders: dict[str, Path]  # by run_id
    problems: list[str]  # sentences about unusable records


def collect_sources(folders: Sequence[Path]) -> PageSources:
    """Collect all planned runs and all runs with a record below `folders`.

    A run that several folders have is taken once.

    Raises:
        RecordError: a plan cannot be read.
    """
    runs: dict[str, Run] = {}
    places: dict[str, Path] = {}
    problems: list[str] = []
    for folder in folders:
        records, faults = load_records(folder)
        plan = read_sweep_plan(folder)
        for run in collect_runs(records, plan):
            if run.run_id not in runs or runs[run.run_id].record is None:
                runs[run.run_id] = run
        places = {path.name: path for path in _find_run_folders(folder)} | places
        problems += faults
    return PageSources([runs[key] for key in sorted(runs)], places, problems)


def _find_run_folders(folder: Path) -> Iterator[Path]:
    for parent, below, names in os.walk(folder):
        if RECORD_FILE in names:
            below.clear()
            yield Path(parent)


def describe_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """Describe the runs as fields for the page's table.

    Returns:
        JSON content: run_ids, fields (distinct values and an index per run), keys that differ, and columns that are
            shown at first:
        state, keys that differ, and the columns of `make table`.
    """
    rows = [_collect_values(run) for run in runs]
    keys = {key: None for row in rows for key in row}
    fields = {key: _encode_field([row.get(key) for row in rows], [key in row for row in rows]) for key in keys}
    identity = {f"config.{key}": None for run in runs for key in run.identity}
    differing = [key for key in identity if key != "config.seed" and len(set(fields[key]["index"])) > 1]
    shown = [column.key for column in build_default_columns(runs) if column.key in fields]
    return {
        "ids": [run.run_id for run in runs],
        "fields": [{"key": key, **field} for key, field in fields.items()],
        "differing": differing,
        "shown": ["state", *differing, "config.seed", *shown, *(["time.train_seconds"] if shown else [])],
    }


def _collect_values(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {"state": run.state}
    found |= {f"config.{key}": _to_json_value(value) for key, value in run.config.items()}
    if run.record is not None:
        found |= {key: _to_json_value(value) for key, value in _collect_results(run.record)}
    return found


def _collect_results(record: Record) -> Iterator[tuple[str, Any]]:
    """Yield numbers, and short texts such as the device's name."""
    for group in _RESULT_GROUPS:
        first, _, second = group.partition(".")
        content = getattr(record, first)
        for key, value in flatten_config(content.get(second, {}) if second else content).items():
            if is_number(value) or (isinstance(value, str) and first == "performance"):
                yield f"{group}.{key}", value
    yield "attempts", record.attempts


def _to_json_value(value: Any) -> Any:
    """Convert a value to one that JSON can hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value) if isinstance(value, (tuple, list, dict)) else value


def _encode_field(values: Sequence[Any], is_present: Sequence[bool]) -> dict[str, Any]:
    places: dict[tuple[type, Any], int] = {}
    index = [
        places.setdefault((type(value), value), len(places)) if known else _NO_VALUE_INDEX
        for value, known in zip(values, is_present, strict=True)
    ]
    return {"values": [value for _, value in places], "index": index}


def describe_table(table: Table, places: Mapping[str, int]) -> dict[str, Any]:
    """Describe a table as JSON content: cells as text and number, rows with the indices of their runs.

    Args:
        table: the table as `make table` has it.
        places: index of each run in the page, by run_id.
    """
    grouped = any(row.group for row in table.rows)
    return {
        "title": table.title,
        "keys": ["group"] * grouped + [key.label or key.key for key in table.keys],
        "columns": [column.heading for column in table.columns],
        "rows": [
            {
                "labels": [row.group] * grouped + list(row.labels),
                "cells": [
                    {
                        "value": cell.value,
                        "spread": cell.spread,
                        "missing": cell.missing,
                        "mean": cell.summary.mean if cell.summary and math.isfinite(cell.summary.mean) else None,
                        "best": cell.best,
                        "published": [f"[{one.source_mark}: {format_number(one.value, column)}]" for one in published],
                    }
                    for cell, column, published in zip(row.cells, table.columns, row.published, strict=True)
                ],
                "runs": sorted(places[run_id] for run_id in row.run_ids if run_id in places),
            }
            for row in table.rows
        ],
        "notes": [*table.notes, *(f"[{mark}] {cited}" for mark, cited in table.marks)],
    }


def describe_failures(sources: PageSources) -> list[dict[str, Any]]:
    """Describe each run without a result: state, exception, and the end of its log."""
    found = []
    for place, run in enumerate(sources.runs):
        if run.is_finished:
            continue
        error = (run.record.error if run.record is not None else None) or {}
        found.append(
            {
                "run": place,
                "state": run.state,
                "type": error.get("type", ""),
                "message": error.get("message", ""),
                "traceback": error.get("traceback", ""),
                "log": _read_log_tail(sources.folders.get(run.run_id)),
            }
        )
    return found


def _read_log_tail(folder: Path | None) -> str:
    """Read the end of a run's log files."""
    if folder is None:
        return ""
    parts = []
    for path in sorted(folder.glob("*.log")):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MAX_LOG_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()[-_MAX_LOG_LINES:]
        parts += [f"{path.name}:", *lines] if lines else []
    return "\n".join(parts)


MAX_ENTRIES = 2000  # entries of a history; of longer ones, evenly spaced entries and all validations are kept
MAX_OUTPUTS = 50  # sentences of the test set that the page shows
_MANTISSA = np.uint32(0xFFFFFC00)  # keeps 13 bits of the mantissa: four digits, a third of the compressed bytes
_COUNT_NAMES = ("update", "epoch", "units")
_LEVELS = 255  # quantization levels between 0 and a head's largest weight


def pack(content: bytes) -> str:
    """Compress bytes and encode them as base64, which cannot end a script or begin a tag."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def pack_json(content: Any) -> str:
    """Encode `content` as JSON, compressed."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return pack(text.encode("utf-8", errors="replace"))


def pack_numbers(header: Mapping[str, Any], body: bytes) -> str:
    """Compress a JSON line followed by the bytes that it describes.

    Args:
        header: JSON content that describes the bytes.
        body: raw numbers.
    """
    text = json.dumps(header, ensure_ascii=False, allow_nan=False)
    return pack(text.encode("utf-8", errors="replace") + b"\n" + body)


@dataclass(frozen=True)
class PackedCurves:
    """History of a run, compressed."""

    packed: str
    metrics: list[str]  # names of the logged metrics
    damaged: int  # number of lines that cannot be read and are left out


def read_curves(folder: Path) -> PackedCurves | None:
    """Read and compress the history in a run's folder.

    The numbers are float32 of shape (series, entries), rounded to four digits; missing values are NaN. Counts are
    exact, stored as differences to the entry before. All lowest bytes come first, then the next ones, which
    compresses better.

    Returns:
        The compressed curves; None if there is no history.
    """
    found = read_history(folder)
    damaged = count_damaged_lines(folder, len(found))
    entries = _thin_entries(found)
    if not entries:
        return None
    names = list(dict.fromkeys(name for entry in entries for name in entry if name != "flops"))
    rows = [np.array([entry.get(name, np.nan) for entry in entries]) for name in names]
    with np.errstate(over="ignore", invalid="ignore"):  # NaN stays NaN
        numbers_SE = np.stack(
            [
                np.diff(row, prepend=0) if n in _COUNT_NAMES else _round_mantissa(row)
                for n, row in zip(names, rows, strict=True)
            ]
        ).astype("<f4")
    last = entries[-1]
    per_unit = last["flops"] / last["units"] if "flops" in last and last.get("units") else math.nan
    header = {"names": names, "counts": _COUNT_NAMES, "entries": len(entries)}
    header["flops_per_unit"] = per_unit if math.isfinite(per_unit) else None
    planes = np.ascontiguousarray(numbers_SE.view(np.uint8).reshape(-1, 4).T)
    return PackedCurves(pack_numbers(header, planes.tobytes()), [name for name in names if "/" in name], damaged)


def _round_mantissa(row_E: np.ndarray) -> np.ndarray:
    numbers_E = row_E.astype("<f4")
    bits_E = numbers_E.view(np.uint32)
    return np.where(np.isfinite(numbers_E), ((bits_E + np.uint32(0x200)) & _MANTISSA).view("<f4"), numbers_E)


def _thin_entries(entries: list[dict[str, float]]) -> list[dict[str, float]]:
    step = -(-len(entries) // MAX_ENTRIES)
    return [
        entry
        for place, entry in enumerate(entries)
        if place % step == 0 or any(name.startswith("val/") for name in entry)
    ]


def read_outputs(folder: Path) -> dict[str, list[str]]:
    """Read the first lines of the test outputs in a run's folder, by column; empty if the run was not tested."""
    found = {}
    for column in ("source", "reference", "hypothesis"):
        path = folder / "outputs" / f"test.{column}.txt"
        if not path.is_file():
            return {}
        # A byte that is not UTF-8 is shown as U+FFFD, so that the page can still be written.
        found[column] = split_lines(path.read_bytes().decode("utf-8", errors="replace"))[:MAX_OUTPUTS]
    # A sentence that lacks its reference cannot be shown.
    return found if len({len(lines) for lines in found.values()}) == 1 else {}


@dataclass(frozen=True)
class PackedMap:
    """Attention of one example, all layers and heads, compressed."""

    number: int  # index of the example
    packed: str


def read_maps(folder: Path) -> Iterator[PackedMap]:
    """Read a run's attention pictures, one byte per weight, scaled to the largest weight of its head."""
    path = folder / "pictures" / "final" / "arrays.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = {name.rpartition(".")[0]: None for name in arrays.files}
            for name in names:
                kind, _, number = name.rpartition("-")
                found = {key.rpartition(".")[2]: arrays[key] for key in arrays.files if key.startswith(f"{name}.")}
                if {"weights", "queries", "keys"} <= found.keys():
                    yield PackedMap(int(number), _pack_token_map(kind, int(number), found))
                elif {"weights", "pixels", "grid", "rollout"} <= found.keys():
                    yield PackedMap(int(number), _pack_patch_map("patches", found, found["weights"]))
                    yield PackedMap(int(number), _pack_patch_map("rollout", found, found["rollout"][None, None]))
    except READ_ERRORS:  # there is no file, or it is incomplete
        return


def _pack_token_map(kind: str, number: int, found: Mapping[str, np.ndarray]) -> str:
    header = {
        "kind": kind,
        "probe": f"validation example {number + 1}",
        "rows": found["queries"].tolist(),
        "columns": found["keys"].tolist(),
    }
    return _pack_map(header, found["weights"], b"")


def _pack_patch_map(kind: str, found: Mapping[str, np.ndarray], weights_LHP: np.ndarray) -> str:
    rows, columns = (int(count) for count in found["grid"])
    pixels_HWC = np.clip(found["pixels"] * 255, 0, 255).round().astype(np.uint8)
    label, predicted = str(found["label"]), str(found["predicted"])
    # Runs show different pictures (those that they get wrong); the same picture is recognized by its pixels.
    mark = hashlib.sha256(pixels_HWC.tobytes()).hexdigest()[:6]
    header = {
        "kind": kind,
        "probe": f"{label} {mark}",
        "rows": _number_labels("row", rows),
        "columns": _number_labels("column", columns),
        "picture": pixels_HWC.shape,
        "said": f"{predicted} ({float(found['confidence']):.2f})",
        "right": label == predicted,
    }
    return _pack_map(header, weights_LHP.reshape(*weights_LHP.shape[:2], rows, columns), pixels_HWC.tobytes())


def _number_labels(word: str, count: int) -> list[str]:
    return [f"{word} {place + 1}" for place in range(count)]


def _pack_map(header: dict[str, Any], weights_LHRC: np.ndarray, rest: bytes) -> str:
    weights_LHRC = np.nan_to_num(weights_LHRC.astype(np.float32))
    most_LH = weights_LHRC.max((2, 3))
    scale_LH11 = np.where(most_LH > 0, most_LH, 1)[..., None, None]
    levels = (weights_LHRC.clip(0) / scale_LH11 * _LEVELS).round().astype(np.uint8)
    header |= {"shape": levels.shape, "most": [[float(f"{most:.5g}") for most in row] for row in most_LH.tolist()]}
    return pack_numbers(header, levels.tobytes() + rest)


def select_maps(found: Sequence[Sequence[PackedMap]], limit: int) -> list[list[str]]:
    """Select attention maps up to `limit` characters together: the first example of every run before any second one."""
    kept: list[list[str]] = [[] for _ in found]
    left = limit
    order = sorted((one.number, run) for run, maps_ in enumerate(found) for one in maps_)
    for number, run in dict.fromkeys(order):
        example = [one.packed for one in found[run] if one.number == number]
        size = sum(map(len, example))
        if size > left:
            break
        left -= size
        kept[run] += example
    return kept


MAPS_MEGABYTES = 16.0
_SCRIPTS = ("data", "filters", "rows", "table", "charts", "curves", "compare", "outputs", "maps", "main")
_NO_CURVE_INDEX = -1


@dataclass(frozen=True)
class PageResult:
    """Result of `write_page`."""

    path: Path
    runs: int
    notes: list[str]  # what was left out, and what could not be read


def write_page(
    folders: Sequence[Path], experiments: Path, output: Path | None = None, maps_megabytes: float = MAPS_MEGABYTES
) -> PageResult:
    """Write the page of all runs below `folders`.

    Args:
        folders: folders of sweeps.
        experiments: folder of the table layouts.
        output: file to write; by default report/index.html in the folders' common parent.
        maps_megabytes: largest size of all attention maps together, in MB.

    Raises:
        RecordError: there are no runs, or a plan or layout cannot be read.
        OSError: the file cannot be written.
    """
    path = output or Path(os.path.commonpath(folders), "report", "index.html")
    tables = [load_table(folder, experiments) for folder in folders]
    sources = collect_sources(folders)
    if not sources.runs:
        raise RecordError(f"{', '.join(map(str, folders))}: no records of runs here")
    content, lines = _build_content(sources, maps_megabytes)
    places = {run.run_id: place for place, run in enumerate(sources.runs)}
    content["title"] = ", ".join(table.title for table in tables)
    content["tables"] = [describe_table(table, places) for table in tables]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_fill_template(content, lines), encoding="utf-8")
    return PageResult(path, len(sources.runs), content["notes"])


def _build_content(sources: PageSources, maps_megabytes: float) -> tuple[dict[str, Any], list[str]]:
    """Build the content that the page reads at once, and the packed lines that it opens on request."""
    lines: list[str] = []
    folders = [sources.folders.get(run.run_id) for run in sources.runs]

    def keep(packed: str) -> int:
        lines.append(packed)
        return len(lines) - 1

    curves = [read_curves(folder) if folder is not None else None for folder in folders]
    metrics = sorted({name for found in curves if found is not None for name in found.metrics})
    outputs = [read_outputs(folder) if folder is not None else {} for folder in folders]
    corpora = {(tuple(texts["source"]), tuple(texts["reference"])): None for texts in outputs if texts}
    of_corpus = {corpus: keep(pack_json(corpus)) for corpus in corpora}
    drawn = [list(read_maps(folder)) if folder is not None else [] for folder in folders]
    kept = select_maps(drawn, int(maps_megabytes * 2**20))
    notes = list(sources.problems)
    for run, found in zip(sources.runs, curves, strict=True):
        if found is not None and found.damaged:
            lines_lost = f"{found.damaged} line{'s' * (found.damaged > 1)}"
            notes.append(f"{run.run_id}/{HISTORY_FILE}: {lines_lost} cannot be read, and are left out of the curves.")
    missing = sum(map(len, drawn)) - sum(map(len, kept))
    if missing:
        notes.append(
            f"{missing} of {sum(map(len, drawn))} attention maps are left out: all would take this page over "
            f"{maps_megabytes:g} MB of them (--maps-megabytes)."
        )
    content = {
        "runs": describe_runs(sources.runs),
        "failures": describe_failures(sources),
        "metrics": metrics,
        "curves": [_NO_CURVE_INDEX if found is None else keep(found.packed) for found in curves],
        "outputs": [
            [of_corpus[tuple(texts["source"]), tuple(texts["reference"])], keep(pack_json(texts["hypothesis"]))]
            if texts
            else None
            for texts in outputs
        ],
        "maps": [[keep(packed) for packed in one] for one in kept],
        "notes": notes,
    }
    return content, lines


def _fill_template(content: dict[str, Any], lines: Sequence[str]) -> str:
    """Fill the template; content of runs is packed, so that it cannot end a script or begin a tag."""
    assets = files("attnbench.reporting") / "assets"
    return fill_template(
        "page.html",
        title=content["title"],
        style=(assets / "page.css").read_text(encoding="utf-8"),
        script="\n".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS),
        content=pack_json(content),
        lines="\n".join(lines),
        plotly=pack((files("plotly") / "package_data" / "plotly.min.js").read_bytes()),
    )
