"""A job's processes, a rank each: out of a fork server, asked to stop once a signal, dead with their parent."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from attnbench.config import Config
from attnbench.process import interrupts, parent_watch
from attnbench.process.interrupts import SIGNALS
from attnbench.process.output import write_to_descriptors
from attnbench.records.lifecycle import build_exception_error, count_oom_kills, is_caused_by_other_rank
from attnbench.records.ranks import RankContext, get_world_size, set_rank_context
from attnbench.records.record import PROGRESS_FILE, RECORD_FILE
from attnbench.sweeps.lease import Lease
from attnbench.sweeps.stop_signals import blocked

_PATIENCE = 2  # signals that a run may take its time over; the next one kills it
_LONGEST_FOLDER = 70  # bytes of a temporary folder's path that leave room for "/pymp-xxxxxxxx/listener-xxxxxxxx"
_TAIL = 10  # lines of a run's output that are kept
_GRACE = 10.0  # seconds that other ranks have to end after one has failed; some library may wait for it forever
_SERVER_GONE = 255  # what multiprocessing says where the fork server, which alone would know, is dead: the run may live


@dataclass(frozen=True)
class Job:
    """One run: where its record goes, and what to call (picklable) in a process of its own.

    `target` is called with `args` and a list of overrides that the supervisor adds to the run's own, such as
    `trainer.num_threads=2`: placement, which is no part of a run's identity.
    """

    title: str  # what tells it from the others
    overrides: list[str]
    config: Config
    folder: Path
    target: Callable[..., object]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a job's processes ended; of several ranks, how the one did that drew the others along."""

    exitcode: int  # as multiprocessing has it
    said: dict[str, str] | None  # the error of an exception that ended it
    rank: int
    short: bool  # whether the kernel killed some process for want of memory meanwhile
    hung: bool  # whether it was killed since it went nowhere


def serve(preload: Sequence[str]) -> None:
    """Start the fork server, which imports `preload` once for all; where there is one already, nothing is done."""
    forkserver.set_forkserver_preload([parent_watch.__name__, *preload])
    _shorten_socket_folder()
    # The fork server inherits the mask and keeps it, so that a signal to the whole process group does not
    # end it under a job; each job unblocks them when it is ready to be stopped, and until then they wait.
    resource_tracker.ensure_running()  # first: it unblocks signals when it starts
    if threading.current_thread() is threading.main_thread():  # the kernel would take a thread's end for ours
        os.environ[parent_watch.SUPERVISOR_VARIABLE] = str(os.getpid())
    try:
        with blocked():
            forkserver.ensure_running()
    finally:
        os.environ.pop(parent_watch.SUPERVISOR_VARIABLE, None)


def _shorten_socket_folder() -> None:
    """Have multiprocessing's sockets lie in /tmp where TMPDIR is too long for the address of one (108 bytes)."""
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is not None or len(os.fsencode(tempfile.gettempdir())) <= _LONGEST_FOLDER:
        return
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        with contextlib.suppress(OSError):
            made = tempfile.mkdtemp(prefix="pymp-", dir=folder)
            atexit.register(shutil.rmtree, made, ignore_errors=True)
            config["tempdir"] = made
            return


class Child:
    """A job's processes, seen from their supervisor."""

    def __init__(self, job: Job, added: Sequence[str], lease: Lease) -> None:
        context = multiprocessing.get_context("forkserver")
        self.output, output = context.Pipe(duplex=False)
        self._processes: list[BaseProcess] = []
        self._said: list[Connection] = []
        self._codes: dict[int, int] = {}  # exit codes by rank, in the order in which they ended
        self._failed: float | None = None  # when the first rank did
        self._asked = 0
        self._kills = count_oom_kills()
        self._rest = b""
        self.tail: deque[str] = deque(maxlen=_TAIL)
        self.silent = False  # it has closed its output
        self._folder, self._hung_minutes = job.folder, job.config.sweep.hang_timeout_minutes
        self._hung = False
        self._signs: list[int] = []
        self._moved = time.monotonic()
        with output:
            places = _places(context, job.config.trainer.devices if get_world_size() == 1 else 1)
            try:
                for place in places:
                    self._start(context, (output, lease, job, list(added), place))
            except BaseException:  # the fork server has just died, say: nobody would look after those that live
                self.kill()
                raise
            finally:
                for place in places:
                    for pipe in place.pipes if place is not None else ():
                        pipe.close()
        with contextlib.suppress(OSError):  # a run may end before it is named
            lease.name(*(process.pid for process in self._processes if process.pid is not None))
        os.set_blocking(self.output.fileno(), False)

    def _start(self, context: ForkServerContext, given: tuple[Any, ...]) -> None:
        said, say = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(say, *given))
        with say:
            process.start()
        self._processes.append(process)
        self._said.append(said)

    @property
    def sentinels(self) -> list[int]:
        """Those that are not known to have ended; each is ready when its process has."""
        return [process.sentinel for rank, process in enumerate(self._processes) if rank not in self._codes]

    @property
    def patience(self) -> float | None:
        """Seconds after which to ask again whether it is over, if no process ends before."""
        looks = [] if self._hung_minutes is None else [min(10.0, 6 * self._hung_minutes)]
        if self._failed is not None:
            looks.append(max(0.0, self._failed + _GRACE - time.monotonic()))
        return min(looks, default=None)

    def is_over(self) -> bool:
        """Whether every process has ended; they are killed where they go nowhere, or one has failed for some time."""
        for rank, process in enumerate(self._processes):
            if rank not in self._codes and process.exitcode is not None:
                self._codes[rank] = process.exitcode
                if process.exitcode and self._failed is None:
                    self._failed = time.monotonic()
        if self._failed is not None and time.monotonic() >= self._failed + _GRACE:
            self.kill()
        over = len(self._codes) == len(self._processes)
        if not over:
            self._kill_if_stuck()
        return over

    def ask(self, number: int) -> None:
        """Pass a signal on; the third one kills."""
        self._asked += 1
        self._send(number if self._asked <= _PATIENCE else signal.SIGKILL)

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
        """How it ended, once it is over."""
        words: dict[int, dict[str, str] | None] = {}
        for rank, said in enumerate(self._said):
            try:
                words[rank] = said.recv() if said.poll() else None
            except EOFError:
                words[rank] = None
            said.close()
        self.output.close()
        if _SERVER_GONE in self._codes.values():
            self.kill()
        failed = [rank for rank, code in self._codes.items() if code]
        drawn = [rank for rank in failed if is_caused_by_other_rank(words[rank])]
        cause = next((rank for rank in failed if rank not in drawn), failed[0] if failed else 0)
        for process in self._processes:
            process.close()
        short = count_oom_kills() > self._kills
        return Ended(self._codes[cause], words[cause], cause, short, self._hung)

    def _kill_if_stuck(self) -> None:
        """Kill it where neither record nor progress has changed for so long, by this process's clock."""
        if self._hung_minutes is None:
            return
        signs = []
        for name in (RECORD_FILE, PROGRESS_FILE):
            with contextlib.suppress(OSError):
                signs.append((self._folder / name).stat().st_mtime_ns)
        if signs != self._signs:
            self._signs, self._moved = signs, time.monotonic()
        elif time.monotonic() - self._moved > 60 * self._hung_minutes:
            self._hung = True
            self.kill()

    def _send(self, number: int) -> None:
        for rank, process in enumerate(self._processes):
            if self._codes.get(rank, _SERVER_GONE) != _SERVER_GONE:
                continue  # it has ended, and its number may be another process's by now
            with contextlib.suppress(ProcessLookupError):
                if process.pid is not None:
                    os.kill(process.pid, number)


def _places(context: ForkServerContext, count: int) -> list[RankContext | None]:
    """For each rank its place, with a pipe from the first to each other; none where it is alone."""
    if count == 1:
        return [None]
    pipes = [context.Pipe(duplex=False) for _ in range(1, count)]
    first = RankContext(0, count, tuple(send for _, send in pipes))
    return [first, *(RankContext(rank, count, (receive,)) for rank, (receive, _) in enumerate(pipes, 1))]


def _child(
    said: Connection, output: Connection, lease: Lease, job: Job, added: list[str], place: RankContext | None
) -> None:
    """A job's process, from its first line to its last."""
    if parent_watch.server is not None:
        parent_watch.end_with_parent(parent_watch.server)
    os.setpgid(0, 0)  # out of reach of the terminal's Ctrl-C: the supervisor passes it on
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    write_to_descriptors()
    for override in added:
        key, _, value = override.partition("=")
        if key == "trainer.num_threads":  # for what reads the environment: libraries loaded later, and other programs
            os.environ["OMP_NUM_THREADS"] = value
    if place is not None:
        set_rank_context(place)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup too: what reaches a run, its supervisor decides
    interrupts.install_handlers()
    with said, lease.kept():
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # one that waited is raised here
            job.target(*job.args, added)
        except BaseException as error:
            interrupts.ignore_signals()
            found = build_exception_error(error, job.folder)
            stopped = interrupts.find_interruption(error)
            if isinstance(stopped, interrupts.Interrupted):
                raise SystemExit(stopped.code) from None
            if isinstance(error, SystemExit):
                raise
            # Short enough for a pipe to hold it unread.
            said.send(found | {"message": found["message"][:2_000], "traceback": found["traceback"][-10_000:]})
            raise SystemExit(1) from None
        finally:
            interrupts.ignore_signals()


def _die_with_parent() -> None:
    """A run whose supervisor is gone would train on unseen, and beside the next command's."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
