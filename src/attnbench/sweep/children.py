"""A job's process: out of a fork server, its output labelled, asked to stop once a signal, dead with its parent."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from attnbench.config import Config
from attnbench.record import PROGRESS, RECORD
from attnbench.sweep.lease import Lease
from attnbench.sweep.records import error_of, kernel_kills
from attnbench.sweep.signals import SIGNALS, blocked, exit_on_sigterm

_PATIENCE = 2  # signals that a run may take its time over; the next one kills it
_TAIL = 10  # lines of a run's output that are kept
_SERVER_GONE = 255  # what multiprocessing says where the fork server, which alone would know, is dead: the run may live


@dataclass(frozen=True)
class Job:
    """One run: where its record goes, and what to call (picklable) in a process of its own.

    `target` is called with `args` and a list of overrides that the supervisor adds to the run's own, such as
    `trainer.threads=2`: placement, which is no part of a run's identity.
    """

    title: str  # what tells it from the others
    overrides: list[str]
    config: Config
    folder: Path
    target: Callable[..., object]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    exitcode: int  # as multiprocessing has it
    said: dict[str, str] | None  # the error of an exception that ended it
    short: bool  # whether the kernel killed some process for want of memory meanwhile
    hung: bool  # whether it was killed since it went nowhere


def serve(preload: Sequence[str]) -> None:
    """Start the fork server, which imports `preload` once for all; where there is one already, nothing is done."""
    forkserver.set_forkserver_preload(list(preload))
    # The fork server inherits the mask and keeps it, so that a signal to the whole process group does not
    # end it under a job; each job unblocks them when it is ready to be stopped, and until then they wait.
    resource_tracker.ensure_running()  # first: it unblocks signals when it starts
    with blocked():
        forkserver.ensure_running()


class Child:
    """A job's process, seen from its supervisor."""

    def __init__(self, job: Job, added: Sequence[str], lease: Lease) -> None:
        context = multiprocessing.get_context("forkserver")
        self._said, said = context.Pipe(duplex=False)
        self.output, output = context.Pipe(duplex=False)
        self._process = context.Process(target=_child, args=(said, output, lease, job, list(added)))
        self._asked = 0
        self._kills = kernel_kills()
        self._rest = b""
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.silent = False  # it has closed its output
        self._hung = False
        self._signs: list[int] = []
        self._moved = time.monotonic()
        with said, output:
            self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        with contextlib.suppress(OSError):  # a run may end before it is named
            lease.name(self.pid)
        os.set_blocking(self.output.fileno(), False)

    @property
    def sentinel(self) -> int:
        """Ready when the process has ended."""
        return self._process.sentinel

    def ask(self, number: int) -> None:
        """Pass a signal on; the third one kills."""
        self._asked += 1
        gentle = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        self._send(gentle if self._asked <= _PATIENCE else signal.SIGKILL)

    def kill_if_stuck(self, folder: Path, minutes: float) -> None:
        """Kill the process where neither record nor progress has changed for so long, by this process's clock."""
        signs = []
        for name in (RECORD, PROGRESS):
            with contextlib.suppress(OSError):
                signs.append((folder / name).stat().st_mtime_ns)
        if signs != self._signs:
            self._signs, self._moved = signs, time.monotonic()
        elif time.monotonic() - self._moved > 60 * minutes:
            self._hung = True
            self.kill()

    def lines(self, last: bool = False) -> list[str]:
        """What it has printed since, line by line; with `last`, what there is of a line that it has not ended."""
        try:
            while not self.silent:
                piece = os.read(self.output.fileno(), 1 << 16)
                self._rest += piece
                self.silent = not piece
        except OSError:  # nothing more for now
            pass
        *whole, self._rest = self._rest.split(b"\n")
        if last and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        # Of a line that was written over and over, what was seen last.
        found = [line.decode(errors="replace").rstrip("\r").rpartition("\r")[2] for line in whole]
        self.tail.extend(line for line in found if line.strip())
        return found

    def kill(self) -> None:
        """End it at once."""
        self._send(signal.SIGKILL)

    def end(self) -> Ended:
        """How it ended, once its sentinel is ready."""
        self._process.join()
        try:
            said = self._said.recv() if self._said.poll() else None
        except EOFError:
            said = None
        self._said.close()
        self.output.close()
        exitcode = self._process.exitcode
        assert exitcode is not None
        if exitcode == _SERVER_GONE:
            self.kill()
        self._process.close()
        return Ended(exitcode, said, kernel_kills() > self._kills, self._hung)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _child(said: Connection, output: Connection, lease: Lease, job: Job, added: list[str]) -> None:
    """A job's process, from its first line to its last."""
    os.setpgid(0, 0)  # out of reach of the terminal's Ctrl-C: the supervisor passes it on
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    for override in added:
        key, _, value = override.partition("=")
        if key == "trainer.threads":  # for what reads the environment: libraries loaded later, and other programs
            os.environ["OMP_NUM_THREADS"] = value
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exit_on_sigterm()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with said, lease.kept():
        try:
            job.target(*job.args, added)
        except KeyboardInterrupt:
            raise SystemExit(128 + signal.SIGINT) from None
        except Exception as error:
            found = error_of(error, job.folder)
            # Short enough for a pipe to hold it unread.
            said.send(found | {"message": found["message"][:2_000], "traceback": found["traceback"][-10_000:]})
            raise SystemExit(1) from None


def _die_with_parent() -> None:
    """A run whose supervisor is gone would train on unseen, and beside the next command's."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
