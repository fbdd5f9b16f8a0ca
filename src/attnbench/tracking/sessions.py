"""What W&B leaves in the folders of runs: sessions, whether they were uploaded, and what is in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MARK = ".synced"  # W&B's own: beside what `wandb sync` has uploaded


class SessionError(Exception):
    """A W&B file that cannot be read: one sentence that names it."""


def sessions(folder: Path) -> list[Path]:
    """The newest .wandb file of each W&B run below `folder`.

    A run that was gone on with tells all that came before again, so that an older session has nothing of its own.
    """
    newest: dict[tuple[Path, str], tuple[str, Path]] = {}
    for parent, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if name != "latest-run")
        for name in list(below):
            kind, _, rest = name.rpartition("run-")
            stamp, _, run_id = rest.partition("-")
            path = Path(parent, name, f"run-{run_id}.wandb")
            if kind not in ("", "offline-") or not run_id or not path.is_file():
                continue
            below.remove(name)
            key = (Path(parent), run_id)
            newest[key] = max(newest.get(key, ("", path)), (stamp, path))
    return [path for _, path in sorted(newest.values(), key=lambda found: found[1])]


def is_sent(path: Path) -> bool:
    """Whether all of a .wandb file is at the server: what was written after an upload is not."""
    mark = _mark(path)
    return mark.is_file() and mark.stat().st_mtime >= path.stat().st_mtime


def mark_sent(session: Path) -> None:
    """Say that all of an online session, a folder, has come to the server."""
    for path in session.glob("run-*.wandb"):
        _mark(path).touch()


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """What a .wandb file holds, in order: `{"type": "history", "history": {...}}` and the like; by W&B's own reader.

    Raises:
        SessionError: it is no such file.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    quiet = os.environ | {"WANDB_ERROR_REPORTING": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    if done.returncode != 0 or not done.stdout:
        said = (done.stderr.strip().splitlines() or ["nothing is in it"])[-1]
        raise SessionError(f"{path}: W&B cannot read this: {said}")
    return map(json.loads, done.stdout.splitlines())


def _mark(path: Path) -> Path:
    return path.with_name(path.name + _MARK)
