"""Records of runs that W&B has: from the files of offline runs, or from a project at its server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench.records.record import SCHEMA_VERSION, FailureReason, Record, RecordError, Status
from attnbench.tracking.runs import AXIS
from attnbench.tracking.sessions import SessionError, lines, sessions

# A config of ours has these, each with keys of its own; where an agent chose one by name, W&B has kept that alone.
_OURS = ("task", "data", "model", "optim", "schedule", "trainer", "sweep")
_COUNTS = ("update", "epoch", "sentences")


@dataclass
class Mirrored:
    """What W&B knows of a run, wherever that was read."""

    where: str
    run_id: str = ""
    project: str = ""
    group: str = ""
    commit: str | None = None
    started: str | None = None
    exit_code: int | None = None  # None: it has not ended, or without a word
    seconds: float = 0.0
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    validations: list[dict[str, Any]] = field(default_factory=list)  # what was logged of each, in order


def from_folder(folder: Path) -> Iterator[Mirrored]:
    """The newest session of each run below `folder`, or in a folder or file of one.

    Raises:
        RecordError: there is none, or a file that W&B cannot read.
    """
    path = folder if folder.suffix == ".wandb" else next(folder.glob("run-*.wandb"), None)
    found = [path] if path is not None else sessions(folder)
    if not found:
        raise RecordError(f"{folder}: no W&B runs here")
    for path in found:
        try:
            yield _of_lines(str(path), lines(path))
        except SessionError as error:
            raise RecordError(str(error)) from error


def from_project(project: str) -> Iterator[Mirrored]:
    """The runs of a project, "entity/project", as whoever is logged in sees it.

    Raises:
        RecordError: W&B does not answer, or has no such project.
    """
    import wandb

    try:
        for run in wandb.Api().runs(project):
            validations = [row for row in run.scan_history() if any(key.startswith("val/") for key in row)]
            yield Mirrored(
                where=f"{project}/{run.id}",
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
        raise RecordError(f"{project}: W&B has not told: {str(error).splitlines()[0]}") from error


def record_of(run: Mirrored) -> Record:
    """A record that says where it is from.

    Raises:
        RecordError: the run's config is not one of attnbench's.
    """
    config = {key: value for key, value in run.config.items() if key != "_wandb"}
    foreign = [key for key in _OURS if not isinstance(config.get(key), Mapping)]
    if foreign or "seed" not in config:
        raise RecordError(f"{run.where}: not a run of attnbench: its config has no {', '.join(foreign) or 'seed'}")
    summary = {part: _part(run.summary, part) for part in ("best", "test", "performance", "parameters")}
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
        metrics={"final": _final(run.validations), "best": summary["best"], "test": summary["test"]},
        performance=summary["performance"],
        notes=["imported from W&B: without its data's checksums, its environment and its command"],
        tracker={"kind": "wandb", "project": run.project, "group": run.group, "id": run.run_id, "from": run.where},
        error=_error(status, run.exit_code),
        time={"started": run.started, "ended": None, "train_seconds": run.seconds},
    )


def _of_lines(where: str, found: Iterable[Mapping[str, Any]]) -> Mirrored:
    run = Mirrored(where)
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


def _part(summary: Mapping[str, Any], part: str) -> dict[str, Any]:
    found = {key.removeprefix(f"{part}/"): value for key, value in summary.items() if key.startswith(f"{part}/")}
    return found if part in ("performance", "parameters") else _measured(found)


def _measured(values: Mapping[str, Any]) -> dict[str, Any]:
    """With measurements as such: W&B keeps 0.0 as 0, which reads as a count."""
    return {
        key: _measured(value)
        if isinstance(value, Mapping)
        else float(value)
        if isinstance(value, int) and key not in _COUNTS
        else value
        for key, value in values.items()
    }


def _final(validations: list[dict[str, Any]]) -> dict[str, Any]:
    if not validations:
        return {}
    last = validations[-1]
    return {"update": last[AXIS] + 1, "epoch": last["epoch"] + 1, **_part(last, "val")}


def _error(status: Status, exit_code: int | None) -> dict[str, str] | None:
    if status is Status.finished:
        return None
    kind = FailureReason.interrupted if status is Status.interrupted else FailureReason.raised
    said = f"W&B has exit code {exit_code}" if exit_code else "W&B has no test of it"
    said = "W&B has no word of its end" if exit_code is None else said
    return {"kind": kind.value, "type": "Imported", "message": said, "traceback": ""}
