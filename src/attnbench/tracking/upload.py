"""Uploading runs that W&B has on disk, by W&B's own command, which neither hangs nor leaves anything about here."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from attnbench.tracking.sessions import is_sent

_AT_ONCE = 20  # sessions a command: what one that hangs costs the others


class NoServer(Exception):
    """There is nobody to upload to, or nobody as whom: one sentence that says what to do."""


def refuse_unreachable() -> None:
    """Ask the server whether it knows who we are, which takes it seconds where `wandb sync` waits for ever.

    Raises:
        NoServer: nobody is logged in, the server does not answer, or it does not take the key.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    try:
        known = wandb.login(prompt=False, verify=True)
    except wandb.errors.Error as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise NoServer(
            f"W&B does not answer, or not to this key: {said}; is there network, and the right key?"
        ) from error
    if not known:
        raise NoServer("nobody is logged in to W&B: run `wandb login` once, or set WANDB_API_KEY")


def upload(paths: Sequence[Path], *, minutes: float) -> list[Path]:
    """Upload .wandb files, the given minutes for every 20 of them; those that did not get there.

    W&B replaces what it has of a run by what is uploaded, so that doing it twice changes nothing.
    """
    for start in range(0, len(paths), _AT_ONCE):
        # W&B takes the folder's name for what it is: `run-...` was online, and is left out unless asked for.
        sessions = [str(path.parent) for path in paths[start : start + _AT_ONCE]]
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", "--include-synced", *sessions]
        with tempfile.TemporaryDirectory() as scratch, suppress(subprocess.TimeoutExpired):
            quiet = os.environ | {"WANDB_DIR": scratch}
            subprocess.run(command, env=quiet, check=False, timeout=60 * minutes, stdin=subprocess.DEVNULL)
    return [path for path in paths if not is_sent(path)]
