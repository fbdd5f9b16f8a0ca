"""Runs that do things to the queue they were handed to, for the launchers' tests."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from sweep_fakes import fail, finish, jobs, killed_once, wait

from attnbench.config import Config
from attnbench.records.lifecycle import create_record, load_previous_record, write_final_status
from attnbench.records.record import Status, write_record

__all__ = ["bereaved_once", "fail", "finish", "jobs", "killed_once", "preempted", "prune", "stop_command"]


def preempted(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run whose supervisor is told, by the signal that a file names, that its job ends; the next attempt finishes."""
    record = create_record(config, [], load_previous_record(folder))
    write_record(record, folder)
    if record.attempts > 1:
        record.status = Status.finished
        write_record(record, folder)
        return
    try:
        os.kill(_supervisor(), int((folder.parent / "signal").read_text()))
        signal.pause()
    except BaseException:
        write_final_status(
            record, folder, Status.interrupted, {"type": "Interrupted", "message": "asked", "traceback": ""}
        )
        raise


def bereaved_once(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run that loses its supervisor, and so its life, the first time."""
    if load_previous_record(folder) is not None:
        finish(config, folder)
        return
    write_record(create_record(config, []), folder)
    os.kill(_supervisor(), signal.SIGKILL)
    signal.pause()


def stop_command(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    """A run during which the command that handed it over is told to stop."""
    os.kill(int((folder.parent / "command").read_text()), signal.SIGINT)
    wait(config, folder)


def prune(config: Config, folder: Path, added: Sequence[str] = ()) -> None:
    class Pruned(Exception):
        """As attnbench.training.callbacks.pruning has it; recognized by name."""

    raise Pruned("seen enough")


def _supervisor() -> int:
    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None
    return parent.pid
