"""One HTML file to compare the runs of sweeps in: everything in it, no server, no network."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from attnbench.history import HISTORY
from attnbench.record import RecordError
from attnbench.report import page_blocks as blocks
from attnbench.report.page_data import Sources, collect, describe_failures, describe_runs, describe_table
from attnbench.report.tables import load_table

MAPS_MEGABYTES = 16.0
_SCRIPTS = ("data", "filters", "rows", "table", "charts", "curves", "compare", "outputs", "maps", "main")
_NONE = -1


@dataclass(frozen=True)
class Written:
    """What the page has become, for whoever asked for it."""

    path: Path
    runs: int
    notes: list[str]  # what it had no room for, and what could not be read


def write_page(
    folders: Sequence[Path], experiments: Path, output: Path | None = None, maps_megabytes: float = MAPS_MEGABYTES
) -> Written:
    """Write the page of every record below `folders`; by default report/index.html where they have their common parent.

    Raises:
        RecordError: there are no runs, or a plan or layout that cannot be taken.
        OSError: it cannot be written.
    """
    path = output or Path(os.path.commonpath(folders), "report", "index.html")
    tables = [load_table(folder, experiments) for folder in folders]
    sources = collect(folders)
    if not sources.runs:
        raise RecordError(f"{', '.join(map(str, folders))}: no records of runs here")
    content, lines = _content(sources, maps_megabytes)
    places = {run.run_id: place for place, run in enumerate(sources.runs)}
    content["title"] = ", ".join(table.title for table in tables)
    content["tables"] = [describe_table(table, places) for table in tables]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(content, lines), encoding="utf-8")
    return Written(path, len(sources.runs), content["notes"])


def _content(sources: Sources, maps_megabytes: float) -> tuple[dict[str, Any], list[str]]:
    """What the page knows at once, and packed lines that it opens when they are asked for."""
    lines: list[str] = []
    folders = [sources.folders.get(run.run_id) for run in sources.runs]

    def keep(packed: str) -> int:
        lines.append(packed)
        return len(lines) - 1

    curves = [blocks.curves(folder) if folder is not None else None for folder in folders]
    metrics = sorted({name for found in curves if found is not None for name in found.metrics})
    outputs = [blocks.outputs(folder) if folder is not None else {} for folder in folders]
    corpora = {(tuple(said["source"]), tuple(said["reference"])): None for said in outputs if said}
    of_corpus = {corpus: keep(blocks.pack_json(corpus)) for corpus in corpora}
    drawn = [list(blocks.maps(folder)) if folder is not None else [] for folder in folders]
    kept = blocks.within(drawn, int(maps_megabytes * 2**20))
    notes = list(sources.problems)
    for run, found in zip(sources.runs, curves, strict=True):
        if found is not None and found.damaged:
            lines_lost = f"{found.damaged} line{'s' * (found.damaged > 1)}"
            notes.append(f"{run.run_id}/{HISTORY}: {lines_lost} cannot be read, and the curves are without them.")
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
        "curves": [_NONE if found is None else keep(found.packed) for found in curves],
        "outputs": [
            [of_corpus[tuple(said["source"]), tuple(said["reference"])], keep(blocks.pack_json(said["hypothesis"]))]
            if said
            else None
            for said in outputs
        ],
        "maps": [[keep(packed) for packed in one] for one in kept],
        "notes": notes,
    }
    return content, lines


def _page(content: dict[str, Any], lines: Sequence[str]) -> str:
    """The template, filled; what runs say is packed, and so cannot end a script or begin a tag."""
    assets = files("attnbench.report") / "assets"
    parts = {
        "title": html.escape(content["title"]),
        "style": (assets / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((assets / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS),
        "content": blocks.pack_json(content),
        "lines": "\n".join(lines),
        "plotly": blocks.pack((files("plotly") / "package_data" / "plotly.min.js").read_bytes()),
    }
    template = (assets / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
