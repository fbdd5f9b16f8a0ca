"""Starts and finishes W&B runs so that a missing login or network never ends the training run."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attnbench
from attnbench.config.tracking import LoggerConfig, LoggerMode
from attnbench.tracking.sessions import mark_uploaded

if TYPE_CHECKING:
    from wandb import Run, Settings

STEP_KEY = "trainer/global_step"  # W&B's own step counts calls
_MAX_NAME_LENGTH = 128  # letters of a name or a group, at the server
_REPOSITORY = Path(attnbench.__file__).resolve().parents[2]
# Which way is up, for the summary's best value beside the last one.
_SUMMARY_MODES = {
    "val/loss": "min",
    "val/perplexity": "min",
    "val/bleu": "max",
    "val/chrf": "max",
    "val/accuracy": "max",
}
# Seconds that W&B may take to begin and to upload the rest at the end; its own defaults are 90, and for ever.
_TIMEOUTS = {"WANDB_INIT_TIMEOUT": 20.0, "WANDB_FINISH_TIMEOUT": 60.0}


def start_run(
    chosen: LoggerConfig,
    folder: Path,
    *,
    run_id: str,
    name: str,
    group: str,
    job_type: str,
    tags: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    git: Mapping[str, Any] | None = None,
) -> tuple[Run, str | None]:
    """Start a W&B run that writes to folder/wandb.

    A resumed run starts again under its id and replaces what W&B has of it, so the caller logs everything again.
    Under `wandb agent`, project and id come from the agent.

    Args:
        chosen: config of the logger.
        folder: folder of the run.
        run_id: id at W&B.
        name: displayed name.
        group: W&B group, the sweep.
        job_type: W&B job type.
        tags: tags of the run.
        config: values that W&B shows as config.
        git: `git` of `identity.collect_provenance`.

    Returns:
        The run, and a sentence that says why it is offline although the config says online; None if it is as
        configured.
    """
    import wandb

    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # even offline, it would report its own errors home
    known: dict[str, Any] = {
        "id": run_id,
        "name": name[:_MAX_NAME_LENGTH],
        "group": group[:_MAX_NAME_LENGTH],
        "job_type": job_type,
    }
    known |= {"tags": list(tags)}
    known |= {"project": chosen.project, "entity": chosen.entity, "dir": folder, "config": dict(config or {})}
    known["settings"] = _build_settings(git)
    if chosen.mode is LoggerMode.offline:
        return _define_axes(wandb.init(mode="offline", **known)), None
    try:
        _require_login()
        return _define_axes(wandb.init(**known)), None  # no mode: one given here would win over WANDB_MODE
    except wandb.errors.Error as error:
        said = str(error).splitlines()[0].rstrip(".")
    why = f"logger.mode=online: W&B did not start: {said}; going on offline, and `make sync` uploads it later"
    print(f"attnbench: {why}", file=sys.stderr, flush=True)
    wandb.teardown(exit_code=1)  # what began of it holds the id
    return _define_axes(wandb.init(mode="offline", **known)), why


def get_first_line(error: BaseException) -> str:
    """Return the first informative line of an error's message; pydantic's first line only names the class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 2 and "validation error" in lines[0]:
        lines = [f"{lines[1]}: {lines[2].partition(' [type=')[0]}"]
    return lines[0].rstrip(".") if lines else type(error).__name__


def stop_wandb() -> None:
    """Stop what W&B has started in this process."""
    import wandb

    wandb.teardown(exit_code=1)


def describe_run(run: Run, folder: Path) -> dict[str, Any]:
    """Return where a W&B run is, for the record."""
    found = {
        "kind": "wandb",
        "mode": "offline" if run.offline else "online",
        "project": run.project,
        "group": run.group,
        "id": run.id,
        "folder": os.path.relpath(Path(run.dir).parent, folder),
    }
    return found if run.offline else found | {"url": run.url}


def finish_run(run: Run, *, failed: bool = False) -> str | None:
    """Finish a run; a failed one is shown as failed.

    Returns:
        A sentence if not everything was uploaded, else None.
    """
    online, session = not run.offline, Path(run.dir).parent
    try:
        run.finish(exit_code=1 if failed else 0)
    except TimeoutError:
        seconds = _get_timeout("WANDB_FINISH_TIMEOUT")
        said = f"W&B did not take all of this run within {seconds:g} s (WANDB_FINISH_TIMEOUT); `make sync` uploads it"
        print(f"attnbench: {said}", file=sys.stderr, flush=True)
        return said
    except Exception as error:
        said = f"W&B did not close this run: {get_first_line(error)}"
        print(f"attnbench: {said}", file=sys.stderr, flush=True)
        return said
    if online:
        mark_uploaded(session)
    return None


def _build_settings(git: Mapping[str, Any] | None) -> Settings:
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        init_timeout=_get_timeout("WANDB_INIT_TIMEOUT"),
        finish_timeout=_get_timeout("WANDB_FINISH_TIMEOUT"),
        finish_timeout_raises=True,
        # Whose repository a run's folder lies in says nothing of the code.
        disable_git=git is None,
        git_root=str(_REPOSITORY) if git else None,
        git_commit=git["commit"] if git else None,
    )


def _require_login() -> None:
    """Raise an error if nobody is logged in, instead of asking: a run of a sweep has no terminal."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    asked = os.environ.get("WANDB_MODE", "online") == "online"
    if asked and not wandb.login(prompt=False, verify=False):
        raise wandb.errors.UsageError("nobody is logged in, which `wandb login` or WANDB_API_KEY mends")


def _define_axes(run: Run) -> Run:
    if not run.offline:
        with suppress(Exception):
            run._public_api()  # kept; else it is made for the first table, when there may be no network to make it
    run.define_metric(STEP_KEY)
    run.define_metric("*", step_metric=STEP_KEY, step_sync=True)
    for key, better in _SUMMARY_MODES.items():
        run.define_metric(key, step_metric=STEP_KEY, step_sync=True, summary=f"{better},last")
    return run


def _get_timeout(variable: str) -> float:
    """Return W&B's timeout in seconds from the environment, or the default if it is not set or not a number."""
    with suppress(ValueError):
        found = float(os.environ.get(variable, ""))
        if 0 <= found < math.inf:
            return found
    return _TIMEOUTS[variable]
