"""W&B files in the folders of runs: sessions, whether they are uploaded, and their content."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FOLDER_NAME = re.compile(r"(offline-)?run-(?P<stamp>[^-]*)-(?P<rest>.+)")  # of a session
_UPLOADED_SUFFIX = ".synced"  # W&B's marker of sessions that `wandb sync` has uploaded


class SessionError(Exception):
    """Error for a W&B file that cannot be read: one sentence that names the file."""


def find_sessions(folder: Path) -> list[Path]:
    """Return the newest .wandb file of each W&B run below `folder`.

    A resumed run logs everything again, so older sessions contain nothing more.
    """
    newest: dict[tuple[Path, str], tuple[str, int, Path]] = {}
    for parent, below, _ in os.walk(folder):
        below[:] = sorted(name for name in below if name != "latest-run")
        for name in list(below):
            parts = _FOLDER_NAME.fullmatch(name)
            path = next(iter(Path(parent, name).glob("run-*.wandb")), None) if parts is not None else None
            if parts is None or path is None:
                continue
            run_id = path.stem.removeprefix("run-")
            number = parts["rest"].removeprefix(f"{run_id}-")  # of the sessions that began in the same second
            below.remove(name)
            key = (Path(parent), run_id)
            found = (parts["stamp"], int(number) if number.isdecimal() else 0, path)
            newest[key] = max(newest.get(key, found), found)
    return [path for *_, path in sorted(newest.values(), key=lambda found: found[-1])]


def is_uploaded(path: Path) -> bool:
    """Return True if a .wandb file is completely uploaded."""
    mark = _get_marker_path(path)
    return mark.is_file() and mark.stat().st_mtime >= path.stat().st_mtime


def mark_uploaded(session: Path) -> None:
    """Mark an online session (a folder) as uploaded."""
    for path in session.glob("run-*.wandb"):
        _get_marker_path(path).touch()


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a .wandb file in order, such as `{"type": "history", "history": {...}}`.

    W&B's own reader reads the file.

    Raises:
        SessionError: if the file is not a W&B file.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    quiet = os.environ | {"WANDB_ERROR_REPORTING": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet, check=False)
    if done.returncode != 0 or not done.stdout:
        message = (done.stderr.strip().splitlines() or ["nothing is in it"])[-1]
        raise SessionError(f"{path}: W&B cannot read this: {message}")
    return map(json.loads, done.stdout.splitlines())


def _get_marker_path(path: Path) -> Path:
    return path.with_name(path.name + _UPLOADED_SUFFIX)
