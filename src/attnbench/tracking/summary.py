"""Summary run of a sweep at W&B: its table, figures, plan and code."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnbench.config.folder import CONFIG_FOLDER, PACKAGE
from attnbench.config.tracking import Logger, LoggerConfig, LoggerMode
from attnbench.records.identity import collect_provenance
from attnbench.records.record import PLAN_FILE, RECORD_FILE, Plan, RecordError, Status, read_record
from attnbench.tracking.runs import finish_run, start_run
from attnbench.tracking.sessions import find_sessions

if TYPE_CHECKING:
    from wandb import Run, Table

JOB_TYPE = "summary"


def log_summary(plan: Plan, folder: Path) -> None:
    """Log the files of a sweep's folder to its summary run, if any of its W&B runs is newer than the summary.

    The id is computed from the plan, so it stays the same when a sweep is resumed. Errors are printed as one
    sentence: local files are
    the source of truth.

    Args:
        plan: plan of the sweep.
        folder: the sweep's folder.
    """
    logger = plan.runs[0].config["logger"]
    if logger["name"] != Logger.wandb.name or not _has_new_runs(plan, folder):
        return
    chosen = LoggerConfig(mode=LoggerMode[logger["mode"]], project=logger["project"], entity=logger["entity"])
    try:
        run, _ = start_run(
            chosen,
            folder,
            run_id=compute_summary_id(plan),
            name=f"{plan.sweep}-{JOB_TYPE}",
            group=plan.sweep,
            job_type=JOB_TYPE,
            config={"sweep": plan.sweep, "command": plan.command, "runs": [run.run_id for run in plan.runs]},
            git=collect_provenance({})["git"],
        )
        try:
            _log_folder(run, folder)
        finally:
            finish_run(run)
    except Exception as error:
        print(f"attnbench: W&B did not take the table of {folder}: {type(error).__name__}: {error}", file=sys.stderr)


def compute_summary_id(plan: Plan) -> str:
    """Compute the W&B id of the run that summarizes a plan, from its run ids in any order."""
    ids = "\n".join(sorted(run.run_id for run in plan.runs))
    return f"{JOB_TYPE}-{hashlib.sha256(ids.encode()).hexdigest()[:12]}"


def build_artifact_name(sweep: str) -> str:
    """Return the name of the artifact with a sweep's results, in characters and length that W&B accepts."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', sweep)[:100]}-results"


def read_table(path: Path) -> Table:
    """Read a CSV file as a W&B table, with numbers as numbers."""
    import wandb

    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    cells: list[list[Any]] = [[_parse_cell(*pair) for pair in zip(header, row, strict=True)] for row in rows]
    return wandb.Table(columns=[*header], data=cells, allow_mixed_types=True)


def _has_new_runs(plan: Plan, folder: Path) -> bool:
    before = max((path.stat().st_mtime for path in find_sessions(folder / "wandb")), default=0.0)
    for planned in plan.runs:
        path = folder / planned.run_id / RECORD_FILE
        if path.is_file() and path.stat().st_mtime > before:
            try:
                record = read_record(path)
            except RecordError:
                continue
            if record.status is Status.finished and (record.tracker or {}).get("kind") == Logger.wandb.name:
                return True
    return False


def _log_folder(run: Run, folder: Path) -> None:
    import wandb

    found: dict[str, Any] = {f"figures/{path.stem}": wandb.Image(str(path)) for path in sorted(folder.glob("*.png"))}
    if (folder / "table.csv").is_file():
        found["table"] = read_table(folder / "table.csv")
    run.log(found)
    results = wandb.Artifact(build_artifact_name(folder.name), "results")
    for path in _list_result_files(folder):
        results.add_file(str(path))
    run.log_artifact(results)
    code = wandb.Artifact("attnbench-source", "code")
    root = Path(os.path.commonpath([PACKAGE, CONFIG_FOLDER]))
    for path in _list_source_files():
        code.add_file(str(path), name=path.relative_to(root).as_posix())
    run.log_artifact(code)


def _list_result_files(folder: Path) -> Iterator[Path]:
    for pattern in (PLAN_FILE, "table.*", "*.pdf"):
        yield from sorted(folder.glob(pattern))


def _list_source_files() -> list[Path]:
    """List the files of the package and of the config groups."""
    found = {
        path for folder in (PACKAGE, CONFIG_FOLDER) for path in folder.rglob("*") if path.suffix in (".py", ".yaml")
    }
    return sorted(found)


def _parse_cell(column: str, text: str) -> float | str | None:
    try:
        return text if column.endswith(".run_ids") else float(text)  # an id may look like a number
    except ValueError:
        return text or None
