"""Builds records from W&B runs: from the files of offline runs, or from a project on the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench.records.record import SCHEMA_VERSION, FailureReason, Record, RecordError, Status
from attnbench.tracking.runs import STEP_KEY
from attnbench.tracking.sessions import SessionError, find_sessions, read_lines

# Groups of a config. If an agent selected a group by name, W&B has only the name.
_REQUIRED_GROUPS = ("task", "data", "model", "optim", "schedule", "trainer", "sweep")
_COUNT_KEYS = ("update", "epoch", "sentences")


@dataclass
class WandbRun:
    """Data of a W&B run, from a file or from the server."""

    location: str
    run_id: str = ""
    project: str = ""
    group: str = ""
    commit: str | None = None
    started: str | None = None
    exit_code: int | None = None  # None: the run has not ended, or ended without an exit code
    seconds: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    validations: list[dict[str, Any]] = field(default_factory=list)  # logged values of each metric, in order


def read_folder(folder: Path) -> Iterator[WandbRun]:
    """Yield the newest session of each run in `folder`.

    Raises:
        RecordError: if there is none, or a file cannot be read.
    """
    path = folder if folder.suffix == ".wandb" else next(folder.glob("run-*.wandb"), None)
    found = [path] if path is not None else find_sessions(folder)
    if not found:
        raise RecordError(f"{folder}: no W&B runs here")
    for path in found:
        try:
            yield _build_from_lines(str(path), read_lines(path))
        except SessionError as error:
            raise RecordError(str(error)) from error


def read_project(project: str) -> Iterator[WandbRun]:
    """Yield the runs of a project, "entity/project", with the current login.

    Raises:
        RecordError: if W&B does not answer, or the project does not exist.
    """
    import wandb

    try:
        for run in wandb.Api().runs(project):
            validations = [row for row in run.scan_history() if any(key.startswith("val/") for key in row)]
            yield WandbRun(
                location=f"{project}/{run.id}",
                run_id=run.id,
                project=run.project,
                group=run.group or "",
                commit=run.commit,
                started=run.created_at,
                exit_code={"finished": 0, "failed": 1, "crashed": 1}.get(run.state),
                seconds=float(run.summary.get("_runtime", 0.0)),
                config=dict(run.config),
                summary=dict(run.summary),
                validations=validations,
            )
    except (wandb.errors.Error, ValueError) as error:
        raise RecordError(f"{project}: W&B did not answer: {str(error).splitlines()[0]}") from error


def build_record(run: WandbRun) -> Record:
    """Build the record of a W&B run; a note says where it comes from.

    Raises:
        RecordError: if the run's config is not one of attnbench's.
    """
    config = {key: value for key, value in run.config.items() if key != "_wandb"}
    foreign = [key for key in _REQUIRED_GROUPS if not isinstance(config.get(key), Mapping)]
    if foreign or "seed" not in config:
        raise RecordError(f"{run.location}: not a run of attnbench: its config has no {', '.join(foreign) or 'seed'}")
    summary = {part: _select_part(run.summary, part) for part in ("best", "test", "performance", "parameters")}
    status = Status.interrupted
    if run.exit_code is not None:
        status = Status.finished if run.exit_code == 0 and summary["test"] else Status.failed
    return Record(
        schema_version=SCHEMA_VERSION,
        run_id=run.run_id,
        name=str(config["name"]),
        sweep=str(config["sweep"]["name"]),
        status=status,
        config=config,
        overrides=[],
        seed=int(config["seed"]),
        provenance={"git": {"commit": run.commit, "dirty": None} if run.commit else None, "versions": {}, "data": {}},
        parameters={key: int(value) for key, value in summary["parameters"].items()},
        metrics={"final": _get_final_validation(run.validations), "best": summary["best"], "test": summary["test"]},
        performance=summary["performance"],
        notes=["imported from W&B: without its data's checksums, its environment and its command"],
        tracker={"kind": "wandb", "project": run.project, "group": run.group, "id": run.run_id, "from": run.location},
        error=_build_error(status, run.exit_code),
        time={"started": run.started, "ended": None, "train_seconds": run.seconds},
    )


def _build_from_lines(where: str, found: Iterable[Mapping[str, Any]]) -> WandbRun:
    run = WandbRun(where)
    for line in found:
        content = line.get(line["type"], {})
        match line["type"]:
            case "run":
                run.run_id, run.project = content["run_id"], content.get("project", "")
                run.group, run.started = content.get("run_group", ""), content.get("start_time")
                run.commit = content.get("git", {}).get("commit")
                run.config |= content.get("config", {}).get("update", {})
            case "summary":
                run.summary |= content.get("update", {})
            case "history" if any(key.startswith("val/") for key in content["item"]):
                run.validations.append(content["item"])
            case "exit":
                run.exit_code, run.seconds = content.get("exit_code", 0), float(content.get("runtime", 0))
    return run


def _select_part(summary: Mapping[str, Any], part: str) -> dict[str, Any]:
    found = {key.removeprefix(f"{part}/"): value for key, value in summary.items() if key.startswith(f"{part}/")}
    return found if part in ("performance", "parameters") else _restore_floats(found)


def _restore_floats(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return measured values as floats: W&B stores 0.0 as 0, which would be read as a count."""
    return {
        key: _restore_floats(value)
        if isinstance(value, Mapping)
        else float(value)
        if isinstance(value, int) and key not in _COUNT_KEYS
        else value
        for key, value in values.items()
    }


def _get_final_validation(validations: list[dict[str, Any]]) -> dict[str, Any]:
    if not validations:
        return {}
    last = validations[-1]
    return {"update": last[STEP_KEY] + 1, "epoch": last["epoch"] + 1, **_select_part(last, "val")}


def _build_error(status: Status, exit_code: int | None) -> dict[str, str] | None:
    if status is Status.finished:
        return None
    kind = FailureReason.interrupted if status is Status.interrupted else FailureReason.raised
    message = f"W&B has exit code {exit_code}" if exit_code else "W&B has no test of it"
    message = "W&B has no word of its end" if exit_code is None else message
    return {"kind": kind.value, "type": "Imported", "message": message, "traceback": ""}
