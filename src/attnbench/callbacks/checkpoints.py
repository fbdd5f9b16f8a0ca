"""Checkpoints that are whole or not there: written beside and renamed, the one before kept, verified when read."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

LAST = Path("checkpoints", "last.ckpt")
PREVIOUS = LAST.with_name("previous.ckpt")
_SHARES = "attnbench_shares"  # batches that a device added up for an update


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's way to the disk. A reader, or a power loss, finds the old file or the new one.

    Of last.ckpt the one before stays as previous.ckpt. A checkpoint counts progress in batches, which are fewer or
    more where `trainer.micro_batch` has changed since; it is read in the batches of this session.
    """

    def __init__(self, shares: int) -> None:
        """`shares`: the batches that a device adds up for an update."""
        self._shares = shares

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            OSError: it cannot be written, as on a full disk; what was there before stays.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.tmp")
        try:
            with draft.open("wb") as file:
                torch.save(checkpoint | {_SHARES: self._shares}, file)
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST.name and path.exists():
                os.replace(path, path.with_name(PREVIOUS.name))
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote."""
        checkpoint: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only)
        return self.recounted(checkpoint)

    def recounted(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """A checkpoint that was read, in the batches of this session."""
        _recount(checkpoint, checkpoint.get(_SHARES, self._shares), self._shares)
        return checkpoint


def latest(folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint that the run in `folder` goes on from, if there is one, and what to say of damaged ones.

    A damaged one is taken away, so that it is not kept in place of a whole one.
    """
    notes: list[str] = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        if _is_whole(path):
            return path, [f"{note}: went on from {name.name}" for note in notes]
        path.unlink()
        notes.append(f"checkpoint {name.name} was damaged")
    return None, [f"{note}: began anew" for note in notes]


def _is_whole(path: Path) -> bool:
    """Whether every part of a checkpoint has the checksum that it was written with."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError):
        return False


def _recount(checkpoint: dict[str, Any], before: int, now: int) -> None:
    """Count the batches of an epoch as they are cut now; a checkpoint is taken between whole updates."""
    if before == now or "loops" not in checkpoint:
        return
    counted = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    places = [counted["total"], counted["current"]]
    places += [
        state for state in checkpoint.values() if isinstance(state, dict) and state.keys() == {"epoch", "batches"}
    ]
    for place in places:
        for key, count in place.items():
            if key != "epoch":
                place[key] = count // before * now
