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
_MAX_NAME_LENGTH = 128  # longest name or group that the server accepts
_REPOSITORY = Path(attnbench.__file__).resolve().parents[2]
# Direction of each metric, for the best value in the summary.
_SUMMARY_MODES = {
    "val/loss": "min",
    "val/perplexity": "min",
    "val/bleu": "max",
    "val/chrf": "max",
    "val/accuracy": "max",
}
# Seconds that W&B may take to start and to finish; its own defaults are 90 and unlimited.
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

    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B reports its own errors to its server, also offline
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
        return _define_axes(wandb.init(**known)), None  # no mode here, because it would override WANDB_MODE
    except wandb.errors.Error as error:
        message = str(error).splitlines()[0].rstrip(".")
    why = f"logger.mode=online: W&B did not start: {message}; going on offline, and `make sync` uploads it later"
    print(f"attnbench: {why}", file=sys.stderr, flush=True)
    wandb.teardown(exit_code=1)  # the failed run holds the id
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
    """Return where a W&B run is, for the record.

    Args:
        run: W&B run.
        folder: folder of the run.
    """
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

    Args:
        run: W&B run.
        failed: whether the run failed.

    Returns:
        A sentence if not everything was uploaded, else None.
    """
    online, session = not run.offline, Path(run.dir).parent
    try:
        run.finish(exit_code=1 if failed else 0)
    except TimeoutError:
        seconds = _get_timeout("WANDB_FINISH_TIMEOUT")
        message = (
            f"W&B did not take all of this run within {seconds:g} s (WANDB_FINISH_TIMEOUT); `make sync` uploads it"
        )
        print(f"attnbench: {message}", file=sys.stderr, flush=True)
        return message
    except Exception as error:
        message = f"W&B did not close this run: {get_first_line(error)}"
        print(f"attnbench: {message}", file=sys.stderr, flush=True)
        return message
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
        # The git repository around a run's folder is not that of the code.
        disable_git=git is None,
        git_root=str(_REPOSITORY) if git else None,
        git_commit=git["commit"] if git else None,
    )


def _require_login() -> None:
    """Raise an error if there is no login, instead of a prompt, because runs of a sweep have no terminal."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    is_online = os.environ.get("WANDB_MODE", "online") == "online"
    if is_online and not wandb.login(prompt=False, verify=False):
        raise wandb.errors.UsageError("not logged in: run `wandb login` once, or set WANDB_API_KEY")


def _define_axes(run: Run) -> Run:
    if not run.offline:
        with suppress(Exception):
            run._public_api()  # created now, because there may be no network when the first table is logged
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
