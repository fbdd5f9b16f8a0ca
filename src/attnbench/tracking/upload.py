"""Uploads local W&B runs with W&B's own command, with a time limit."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attnbench.tracking.sessions import is_uploaded

_FILES_PER_UPLOAD = 20  # sessions per command, which limits what a hanging one costs


class ServerUnavailable(Exception):
    """Error for a missing server or login: one sentence that says what to do."""


def check_server() -> None:
    """Check within seconds that the server accepts the login; `wandb sync` would wait without a limit.

    Raises:
        ServerUnavailable: if there is no login, the server does not answer, or it refuses the key.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    try:
        known = wandb.login(prompt=False, verify=True)
    except wandb.errors.Error as error:
        message = str(error).splitlines()[0].rstrip(".")
        raise ServerUnavailable(
            f"W&B does not answer, or not to this key: {message}; is there network, and the right key?"
        ) from error
    if not known:
        raise ServerUnavailable("not logged in to W&B: run `wandb login` once, or set WANDB_API_KEY")


def upload_sessions(paths: Sequence[Path], *, minutes: float) -> list[Path]:
    """Upload .wandb files.

    W&B replaces what it has of a run, so a second upload changes nothing.

    Args:
        paths: the files.
        minutes: time limit for each 20 files.

    Returns:
        The files that were not uploaded.
    """
    for start in range(0, len(paths), _FILES_PER_UPLOAD):
        # W&B detects online runs by the folder name `run-...`, and skips them by default.
        sessions = [str(path.parent) for path in paths[start : start + _FILES_PER_UPLOAD]]
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", "--include-synced", *sessions]
        with tempfile.TemporaryDirectory() as scratch, suppress(subprocess.TimeoutExpired):
            quiet = os.environ | {"WANDB_DIR": scratch}
            subprocess.run(command, env=quiet, check=False, timeout=60 * minutes, stdin=subprocess.DEVNULL)
    return [path for path in paths if not is_uploaded(path)]
