"""Processes of a job, one per rank: started by a fork server, stopped by signals, ended with their supervisor."""

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
from attnbench.sweeps.stop_signals import block_signals

_MAX_SIGNALS = 2  # signals that let a run finish; the next one kills it
_MAX_SOCKET_FOLDER_LENGTH = (
    70  # longest path of a temporary folder, in bytes, to which "/pymp-xxxxxxxx/listener-xxxxxxxx" can be added
)
_NUM_TAIL_LINES = 10  # lines of a run's output that are kept
_GRACE_SECONDS = 10.0  # seconds that other ranks have to end after one failed, since libraries may wait for it forever
_EXITCODE_WITHOUT_SERVER = 255  # multiprocessing's exit code if the fork server is dead: the run may still live


@dataclass(frozen=True)
class Job:
    """One run: its folder, and the function to call (picklable) in its own process.

    `target` is called with `args` and a list of placement overrides that the supervisor adds, such as
    `trainer.num_threads=2`; they are not part of a run's identity.
    """

    title: str  # label that distinguishes the run from the others
    overrides: list[str]
    config: Config
    folder: Path
    target: Callable[..., object]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class JobExit:
    """End of a job's processes; of several ranks, the end of the rank that made the others end."""

    exitcode: int  # exit code of multiprocessing
    error: dict[str, str] | None  # error of the exception that ended the run
    rank: int
    is_out_of_memory: bool  # whether the kernel killed a process for lack of memory meanwhile
    is_hung: bool  # whether it was killed because it made no progress


def start_fork_server(preload: Sequence[str]) -> None:
    """Start the fork server, which imports `preload` once; do nothing if it runs already."""
    forkserver.set_forkserver_preload([parent_watch.__name__, *preload])
    _shorten_socket_folder()
    # The fork server inherits the mask and keeps it, so that a signal to the whole process group does not
    # end it. Each run unblocks them when it can be stopped; until then they stay pending.
    resource_tracker.ensure_running()  # first: it unblocks signals when it starts
    if threading.current_thread() is threading.main_thread():  # PR_SET_PDEATHSIG reacts to the end of a thread
        os.environ[parent_watch.SUPERVISOR_VARIABLE] = str(os.getpid())
    try:
        with block_signals():
            forkserver.ensure_running()
    finally:
        os.environ.pop(parent_watch.SUPERVISOR_VARIABLE, None)


def _shorten_socket_folder() -> None:
    """Put multiprocessing's sockets in /tmp if TMPDIR is too long for a socket address (108 bytes)."""
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is not None or len(os.fsencode(tempfile.gettempdir())) <= _MAX_SOCKET_FOLDER_LENGTH:
        return
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        with contextlib.suppress(OSError):
            made = tempfile.mkdtemp(prefix="pymp-", dir=folder)
            atexit.register(shutil.rmtree, made, ignore_errors=True)
            config["tempdir"] = made
            return


class JobProcesses:
    """Processes of a job, as their supervisor sees them."""

    def __init__(self, job: Job, placement: Sequence[str], lease: Lease) -> None:
        context = multiprocessing.get_context("forkserver")
        self.output, output = context.Pipe(duplex=False)
        self._processes: list[BaseProcess] = []
        self._error_pipes: list[Connection] = []
        self._exit_codes: dict[int, int] = {}  # exit codes by rank, in the order in which they ended
        self._failed_at: float | None = None  # time at which the first rank ended
        self._asked = 0
        self._kills = count_oom_kills()
        self._rest = b""
        self.tail: deque[str] = deque(maxlen=_NUM_TAIL_LINES)
        self.silent = False  # the process has closed its output
        self._folder, self._hang_timeout_minutes = job.folder, job.config.sweep.hang_timeout_minutes
        self._hung = False
        self._progress_signs: list[int] = []
        self._progressed_at = time.monotonic()
        with output:
            places = _build_rank_contexts(context, job.config.trainer.devices if get_world_size() == 1 else 1)
            try:
                for place in places:
                    self._start_processes(context, (output, lease, job, list(placement), place))
            except BaseException:  # for example, the fork server died: end the processes that still live
                self.kill()
                raise
            finally:
                for place in places:
                    for pipe in place.pipes if place is not None else ():
                        pipe.close()
        with contextlib.suppress(OSError):  # a run may end before its process id is registered
            lease.register_processes(*(process.pid for process in self._processes if process.pid is not None))
        os.set_blocking(self.output.fileno(), False)

    def _start_processes(self, context: ForkServerContext, given: tuple[Any, ...]) -> None:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_run_job_process, args=(sender, *given))
        with sender:
            process.start()
        self._processes.append(process)
        self._error_pipes.append(receiver)

    @property
    def sentinels(self) -> list[int]:
        """File descriptors of the processes that have not ended; each becomes readable when its process ends."""
        return [process.sentinel for rank, process in enumerate(self._processes) if rank not in self._exit_codes]

    @property
    def poll_seconds(self) -> float | None:
        """Seconds after which to call `is_over` again if no process ends before."""
        looks = [] if self._hang_timeout_minutes is None else [min(10.0, 6 * self._hang_timeout_minutes)]
        if self._failed_at is not None:
            looks.append(max(0.0, self._failed_at + _GRACE_SECONDS - time.monotonic()))
        return min(looks, default=None)

    def is_over(self) -> bool:
        """Return True if all processes have ended; hung processes, and those left after a failed rank, are killed."""
        for rank, process in enumerate(self._processes):
            if rank not in self._exit_codes and process.exitcode is not None:
                self._exit_codes[rank] = process.exitcode
                if process.exitcode and self._failed_at is None:
                    self._failed_at = time.monotonic()
        if self._failed_at is not None and time.monotonic() >= self._failed_at + _GRACE_SECONDS:
            self.kill()
        over = len(self._exit_codes) == len(self._processes)
        if not over:
            self._kill_if_stuck()
        return over

    def send_signal(self, number: int) -> None:
        """Send a signal to all processes; the third call kills them."""
        self._asked += 1
        self._send_to_all(number if self._asked <= _MAX_SIGNALS else signal.SIGKILL)

    def read_lines(self, is_last: bool = False) -> list[str]:
        """Return the lines printed since the last call.

        Args:
            is_last: also return an unfinished line.
        """
        try:
            while not self.silent:
                piece = os.read(self.output.fileno(), 1 << 16)
                self._rest += piece
                self.silent = not piece
        except OSError:  # no more data at the moment
            pass
        *whole, self._rest = self._rest.split(b"\n")
        if is_last and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        # Of a line that was overwritten (progress bars), the last state.
        found = [line.decode(errors="replace").rstrip("\r").rpartition("\r")[2] for line in whole]
        self.tail.extend(line for line in found if line.strip())
        return found

    def kill(self) -> None:
        """Kill all processes."""
        self._send_to_all(signal.SIGKILL)

    def collect_exit(self) -> JobExit:
        """Return how the job ended; only after `is_over`."""
        words: dict[int, dict[str, str] | None] = {}
        for rank, receiver in enumerate(self._error_pipes):
            try:
                words[rank] = receiver.recv() if receiver.poll() else None
            except EOFError:
                words[rank] = None
            receiver.close()
        self.output.close()
        if _EXITCODE_WITHOUT_SERVER in self._exit_codes.values():
            self.kill()
        failed = [rank for rank, code in self._exit_codes.items() if code]
        drawn = [rank for rank in failed if is_caused_by_other_rank(words[rank])]
        cause = next((rank for rank in failed if rank not in drawn), failed[0] if failed else 0)
        for process in self._processes:
            process.close()
        short = count_oom_kills() > self._kills
        return JobExit(self._exit_codes[cause], words[cause], cause, short, self._hung)

    def _kill_if_stuck(self) -> None:
        """Kill the processes if neither record nor progress has changed within the hang timeout."""
        if self._hang_timeout_minutes is None:
            return
        signs = []
        for name in (RECORD_FILE, PROGRESS_FILE):
            with contextlib.suppress(OSError):
                signs.append((self._folder / name).stat().st_mtime_ns)
        if signs != self._progress_signs:
            self._progress_signs, self._progressed_at = signs, time.monotonic()
        elif time.monotonic() - self._progressed_at > 60 * self._hang_timeout_minutes:
            self._hung = True
            self.kill()

    def _send_to_all(self, number: int) -> None:
        for rank, process in enumerate(self._processes):
            if self._exit_codes.get(rank, _EXITCODE_WITHOUT_SERVER) != _EXITCODE_WITHOUT_SERVER:
                continue  # it has ended, and its process id may be reused
            with contextlib.suppress(ProcessLookupError):
                if process.pid is not None:
                    os.kill(process.pid, number)


def _build_rank_contexts(context: ForkServerContext, count: int) -> list[RankContext | None]:
    """Build the rank context of each process, with pipes from rank 0 to the others; [None] for a single process."""
    if count == 1:
        return [None]
    pipes = [context.Pipe(duplex=False) for _ in range(1, count)]
    first = RankContext(0, count, tuple(send for _, send in pipes))
    return [first, *(RankContext(rank, count, (receive,)) for rank, (receive, _) in enumerate(pipes, 1))]


def _run_job_process(
    error_pipe: Connection,
    output: Connection,
    lease: Lease,
    job: Job,
    placement: list[str],
    context: RankContext | None,
) -> None:
    """Run a job in this process, from the first line to the last."""
    if parent_watch.server is not None:
        parent_watch.end_with_parent(parent_watch.server)
    os.setpgid(0, 0)  # in its own process group, so that only the supervisor forwards Ctrl-C
    threading.Thread(target=_end_with_supervisor, daemon=True).start()
    for descriptor in (1, 2):
        os.dup2(output.fileno(), descriptor)
    output.close()
    write_to_descriptors()
    for override in placement:
        key, _, value = override.partition("=")
        if key == "trainer.num_threads":  # for libraries that are loaded later, and other programs
            os.environ["OMP_NUM_THREADS"] = value
    if context is not None:
        set_rank_context(context)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also under nohup: the supervisor decides which signals reach a run
    interrupts.install_handlers()
    with error_pipe, lease.keep_renewed():
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a pending signal is raised here
            job.target(*job.args, placement)
        except BaseException as error:
            interrupts.ignore_signals()
            found = build_exception_error(error, job.folder)
            stopped = interrupts.find_interruption(error)
            if isinstance(stopped, interrupts.Interrupted):
                raise SystemExit(stopped.code) from None
            if isinstance(error, SystemExit):
                raise
            # Short enough for the buffer of a pipe.
            error_pipe.send(found | {"message": found["message"][:2_000], "traceback": found["traceback"][-10_000:]})
            raise SystemExit(1) from None
        finally:
            interrupts.ignore_signals()


def _end_with_supervisor() -> None:
    """End this process when its supervisor ends, so that no run continues unsupervised."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
