"""A W&B run, begun and finished so that neither a missing login nor a lost network costs the run that it mirrors."""

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
from attnbench.tracking.sessions import mark_sent

if TYPE_CHECKING:
    from wandb import Run, Settings

AXIS = "trainer/global_step"  # W&B's own step counts calls
_LONGEST = 128  # letters of a name or a group, at the server
_CHECKOUT = Path(attnbench.__file__).resolve().parents[2]
# Which way is up, for the summary's best value beside the last one.
_BETTER = {"val/loss": "min", "val/perplexity": "min", "val/bleu": "max", "val/chrf": "max", "val/accuracy": "max"}
# Seconds that W&B may take to begin and to upload the rest at the end; its own defaults are 90, and for ever.
_PATIENCE = {"WANDB_INIT_TIMEOUT": 20.0, "WANDB_FINISH_TIMEOUT": 60.0}


def begin(
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
    """A W&B run that writes under folder/wandb; and if it is offline against `chosen`, one sentence that says why.

    A run that is gone on with begins anew under its id, which takes the place of what W&B had of it: tell it all.
    Under `wandb agent` the run is the agent's: W&B takes project and id from there.

    `config` is what W&B is to show, `git` what `identity.provenance` says of the checkout.
    """
    import wandb

    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # even offline, it would report its own errors home
    known: dict[str, Any] = {"id": run_id, "name": name[:_LONGEST], "group": group[:_LONGEST], "job_type": job_type}
    known |= {"tags": list(tags)}
    known |= {"project": chosen.project, "entity": chosen.entity, "dir": folder, "config": dict(config or {})}
    known["settings"] = _settings(git)
    if chosen.mode is LoggerMode.offline:
        return _with_axes(wandb.init(mode="offline", **known)), None
    try:
        _refuse_unknown()
        return _with_axes(wandb.init(**known)), None  # no mode: one given here would win over WANDB_MODE
    except wandb.errors.Error as error:
        said = str(error).splitlines()[0].rstrip(".")
    why = f"logger.mode=online: W&B did not start: {said}; going on offline, and `make sync` uploads it later"
    print(f"attnbench: {why}", file=sys.stderr, flush=True)
    wandb.teardown(exit_code=1)  # what began of it holds the id
    return _with_axes(wandb.init(mode="offline", **known)), why


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that says something; pydantic's only names the class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 2 and "validation error" in lines[0]:
        lines = [f"{lines[1]}: {lines[2].partition(' [type=')[0]}"]
    return lines[0].rstrip(".") if lines else type(error).__name__


def teardown() -> None:
    """End what W&B has begun in this process."""
    import wandb

    wandb.teardown(exit_code=1)


def describe(run: Run, folder: Path) -> dict[str, Any]:
    """Where a run is, for its record."""
    found = {
        "kind": "wandb",
        "mode": "offline" if run.offline else "online",
        "project": run.project,
        "group": run.group,
        "id": run.id,
        "folder": os.path.relpath(Path(run.dir).parent, folder),
    }
    return found if run.offline else found | {"url": run.url}


def finish(run: Run, *, failed: bool = False) -> str | None:
    """Close a run; W&B shows one that failed as failed. Returns a sentence if not all of it came to the server."""
    online, session = not run.offline, Path(run.dir).parent
    try:
        run.finish(exit_code=1 if failed else 0)
    except TimeoutError:
        seconds = _patience("WANDB_FINISH_TIMEOUT")
        said = f"W&B did not take all of this run within {seconds:g} s (WANDB_FINISH_TIMEOUT); `make sync` uploads it"
        print(f"attnbench: {said}", file=sys.stderr, flush=True)
        return said
    except Exception as error:
        said = f"W&B did not close this run: {first_line(error)}"
        print(f"attnbench: {said}", file=sys.stderr, flush=True)
        return said
    if online:
        mark_sent(session)
    return None


def _settings(git: Mapping[str, Any] | None) -> Settings:
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        init_timeout=_patience("WANDB_INIT_TIMEOUT"),
        finish_timeout=_patience("WANDB_FINISH_TIMEOUT"),
        finish_timeout_raises=True,
        # Whose repository a run's folder lies in says nothing of the code.
        disable_git=git is None,
        git_root=str(_CHECKOUT) if git else None,
        git_commit=git["commit"] if git else None,
    )


def _refuse_unknown() -> None:
    """Raise where nobody is logged in, rather than ask: a run of a sweep has nobody to ask."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    asked = os.environ.get("WANDB_MODE", "online") == "online"
    if asked and not wandb.login(prompt=False, verify=False):
        raise wandb.errors.UsageError("nobody is logged in, which `wandb login` or WANDB_API_KEY mends")


def _with_axes(run: Run) -> Run:
    if not run.offline:
        with suppress(Exception):
            run._public_api()  # kept; else it is made for the first table, when there may be no network to make it
    run.define_metric(AXIS)
    run.define_metric("*", step_metric=AXIS, step_sync=True)
    for key, better in _BETTER.items():
        run.define_metric(key, step_metric=AXIS, step_sync=True, summary=f"{better},last")
    return run


def _patience(variable: str) -> float:
    """Seconds that the environment gives W&B, or ours where it gives none, or what is no number."""
    with suppress(ValueError):
        found = float(os.environ.get(variable, ""))
        if 0 <= found < math.inf:
            return found
    return _PATIENCE[variable]
