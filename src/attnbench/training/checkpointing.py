"""Atomic checkpoints with checksums: written beside and renamed, with the previous one kept."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from attnbench.config import Config
from attnbench.config.trainer import FinalWeights
from attnbench.records.identity import compute_run_id_from_dict
from attnbench.records.record import RecordError
from attnbench.tasks.base import CHECKPOINT_KEY
from attnbench.tasks.optimization import average_state_dicts
from attnbench.training.callbacks.run_record import RecordCallback

LAST_CHECKPOINT = Path("checkpoints", "last.ckpt")
PREVIOUS_CHECKPOINT = LAST_CHECKPOINT.with_name("previous.ckpt")
_MICRO_BATCHES_KEY = "attnbench_shares"  # key: number of batches per update on a device
_PATH_KEYS = (
    "best_model_path",
    "kth_best_model_path",
    "last_model_path",
)  # in the state of Lightning's ModelCheckpoint


class CheckpointFault(Exception):
    """Raised for a checkpoint that cannot be used; the message is a sentence part, such as "last.ckpt was damaged"."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint plugin of Lightning that writes atomically: after a power loss there is the old file or the new one.

    The file before last.ckpt is kept as previous.ckpt. Progress is counted in batches, whose number depends on
    `trainer.micro_batch_size`; when a checkpoint is read, progress is converted to the batches of this session.
    """

    def __init__(self, num_micro_batches: int) -> None:
        """Create the plugin.

        Args:
            num_micro_batches: batches per update on this device.
        """
        self._shares = num_micro_batches

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
                torch.save(checkpoint | {_MICRO_BATCHES_KEY: self._shares}, file)
                file.flush()
                os.fsync(file.fileno())
            if path.name == LAST_CHECKPOINT.name and path.exists():
                os.replace(path, path.with_name(PREVIOUS_CHECKPOINT.name))
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote."""
        checkpoint: dict[str, Any] = super().load_checkpoint(path, map_location, weights_only)
        return self.convert_progress(checkpoint)

    def convert_progress(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Convert the progress in a checkpoint to the batches of this session."""
        _convert_batch_progress(checkpoint, checkpoint.get(_MICRO_BATCHES_KEY, self._shares), self._shares)
        return checkpoint


class MovableCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint with a state that stays valid when the run's folder is moved or copied.

    Lightning stores absolute paths, and drops the best score if the folder's path has changed, so that the next
    validation would count as the best. Here files are stored by name and searched in the current folder.
    """

    @property
    def state_key(self) -> str:
        """Key of Lightning's class, under which older checkpoints have the state."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state, with names in place of paths."""
        return _change_paths(super().state_dict(), lambda path: Path(path).name)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; files are those of that name in this run's folder."""
        folder = Path(self.dirpath or "")
        super().load_state_dict(_change_paths(state_dict, lambda path: str(folder / Path(path).name)))

    def list_expected_files(self, checkpoint: dict[str, Any], best_update: int | None) -> dict[Path, int | None]:
        """Return the files of weights that `checkpoint`, one of the run's, expects here, and the update of each.

        `best_update` is what the run's record has for the best validation.
        """
        scores = checkpoint.get("callbacks", {}).get(self.state_key, {}).get("best_k_models", {})
        by_step = self.monitor == "step"
        return {
            Path(self.dirpath or "", Path(path).name): int(score) if by_step else best_update
            for path, score in scores.items()
        }

    def find_weights_fault(self, checkpoint: dict[str, Any], best_update: int | None) -> str | None:
        """Check that the weights that `checkpoint` expects exist, are complete, and belong to the right update.

        Newer weights are also accepted: they are written before the run's own checkpoint, and a run that resumes from
        an older checkpoint writes them again.

        Returns:
            What is wrong, as in "best.ckpt was damaged"; None: nothing.
        """
        update, missing = checkpoint["global_step"], 0
        expected = self.list_expected_files(checkpoint, best_update)
        for path, wanted in expected.items():
            if self.save_top_k > 1 and not path.exists():
                missing += 1  # possibly replaced by a newer one
                continue
            try:
                found = read_checkpoint(path)["global_step"]
            except CheckpointFault as fault:
                return str(fault)
            if found != wanted and found <= update:
                return f"{path.name} was of update {found} instead of {wanted}"
        newer = 0
        if missing:
            others = (
                set(Path(self.dirpath or "").glob(f"{str(self.filename).partition('{')[0]}*.ckpt")) - expected.keys()
            )
            newer = sum(_is_newer(path, update) for path in others)
        removed = max(0, len(expected) + newer - self.save_top_k)  # older ones that newer ones replace
        return None if missing <= removed else f"{missing} of {len(expected)} files of weights were missing"


def _change_paths(state: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Return the state of a ModelCheckpoint without its folder, each path changed; an empty path stays."""
    changed = {key: value for key, value in state.items() if key != "dirpath"}
    for key in _PATH_KEYS:
        if changed.get(key):
            changed[key] = change(changed[key])
    changed["best_k_models"] = {change(path): score for path, score in state.get("best_k_models", {}).items()}
    return changed


def _is_newer(path: Path, update: int) -> bool:
    try:
        return bool(read_checkpoint(path)["global_step"] > update)
    except CheckpointFault:
        return False


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that `AtomicCheckpointIO` wrote; its tensors come from the file when they are used.

    Nothing in the file is executed.

    Raises:
        CheckpointFault: missing, a folder, damaged, or something else than such a checkpoint.
        OSError: it may not be read.
    """
    if not path.is_file():
        raise CheckpointFault(f"{path.name} was {'not a file' if path.exists() else 'missing'}")
    if not _has_valid_checksums(path):
        raise CheckpointFault(f"{path.name} was damaged")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # an arbitrary file can raise anything during unpickling
        raise CheckpointFault(f"{path.name} was not one of attnbench's") from error
    if not isinstance(checkpoint, dict) or _MICRO_BATCHES_KEY not in checkpoint:
        raise CheckpointFault(f"{path.name} was not one of attnbench's")
    return checkpoint


def find_latest_checkpoint(
    folder: Path,
    check: Callable[[dict[str, Any]], str | None] = lambda checkpoint: None,
    *,
    rename_damaged: bool = True,
) -> tuple[Path | None, list[str]]:
    """Find the checkpoint that the run in `folder` resumes from.

    Args:
        folder: of the run.
        check: what is wrong with a checkpoint that is whole, as in "best.ckpt was damaged"; None: nothing.
        rename_damaged: rename unusable files to <name>.damaged, so that they do not replace usable ones.

    Returns:
        The checkpoint's path, None if there is none; and a note for each one that could not be used.
    """
    faults: list[str] = []
    for name in (LAST_CHECKPOINT, PREVIOUS_CHECKPOINT):
        path = folder / name
        if not os.path.lexists(path):
            continue
        try:
            fault = check(read_checkpoint(path))
        except CheckpointFault as error:
            fault = str(error)
        if fault is None:
            return path, [f"checkpoint {each}: went on from {name.name}" for each in faults]
        if rename_damaged:
            _rename_damaged(path)
        faults.append(fault)
    return None, [f"checkpoint {each}: restarted from the beginning" for each in dict.fromkeys(faults)]


def _rename_damaged(path: Path) -> None:
    """Rename a damaged file or folder to <name>.damaged; only the newest such file is kept."""
    target = path.with_name(f"{path.name}.damaged")
    number = 1
    while target.is_dir() or (path.is_dir() and target.exists()):
        number += 1
        target = path.with_name(f"{path.name}.damaged-{number}")
    os.replace(path, target)


def _has_valid_checksums(path: Path) -> bool:
    """Return True if every part of a checkpoint has its checksum."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, RuntimeError, FileNotFoundError):
        return False


def _convert_batch_progress(checkpoint: dict[str, Any], before: int, now: int) -> None:
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


_RESTART_NOTE = "the same command restarts from the beginning"


def find_checkpoint_fault(
    checkpoint: dict[str, Any], run_id: str, checkpoint_callbacks: list[pl.Callback]
) -> str | None:
    """Check that a run can resume from `checkpoint`: it belongs to this run, and its weights exist.

    Args:
        checkpoint: what last.ckpt or previous.ckpt holds.
        run_id: of this run.
        checkpoint_callbacks: this session's callbacks that save weights.

    Returns:
        What is wrong, as in "best.ckpt was damaged"; None: nothing.
    """
    stored = checkpoint.get(CHECKPOINT_KEY)
    if stored is None or compute_run_id_from_dict(stored["config"]) != run_id:
        return "was of another run"
    best = checkpoint["callbacks"].get(RecordCallback.__qualname__, {}).get("best", {}).get("update")
    faults = (
        keeper.find_weights_fault(checkpoint, best)
        for keeper in checkpoint_callbacks
        if isinstance(keeper, MovableCheckpoint)
    )
    return next((fault for fault in faults if fault is not None), None)


def load_final_weights(
    config: Config, checkpoint_callbacks: list[pl.Callback], last: Path, best: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Read the state dict that is tested and kept, as `trainer.final_weights` says.

    Args:
        config: of the run.
        checkpoint_callbacks: the callbacks that have saved weights.
        last: the run's own checkpoint.
        best: the record's `metrics.best`; the best weights must be of its update.

    Returns:
        The state dict, and what a reader of the record must know of it.

    Raises:
        RecordError: a file of weights that is damaged, or of another update than the record says.
    """
    chosen = config.trainer
    wanted: dict[str, int | None] = {str(last): None}
    for keeper in checkpoint_callbacks:
        if isinstance(keeper, MovableCheckpoint):
            is_best = chosen.final_weights is FinalWeights.best
            steps = sorted((int(score), path) for path, score in keeper.best_k_models.items())
            wanted = {keeper.best_model_path: best.get("update")} if is_best else {path: step for step, path in steps}
    states, updates = [], []
    for path, update in wanted.items():
        try:
            checkpoint = read_checkpoint(Path(path))
        except CheckpointFault as fault:
            raise RecordError(f"{path}: {fault}; {_RESTART_NOTE}") from fault
        found = checkpoint["global_step"]
        if update is not None and found != update:
            raise RecordError(f"{path}: weights of update {found}, where the record has {update}; {_RESTART_NOTE}")
        updates.append(found)
        states.append(checkpoint["state_dict"])  # weights only: the optimizer's state is twice as large
    notes = []
    if chosen.final_weights is FinalWeights.average and len(updates) < chosen.average_last:
        notes.append(
            f"tested: the mean of all {len(updates)} checkpoints, of update {min(updates)} to {max(updates)}, where the"
            f" last {chosen.average_last} of more were meant: trainer.final_weights=best may be what you want"
        )
    return dict(average_state_dicts(states)), notes
