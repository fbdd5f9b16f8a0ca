"""Leases: only one command at a time works in a run's folder, across machines and network file systems.

A lease is a file that only one process can create (`O_EXCL`). The holder touches the file while the run lives. A
process that finds a lease which was not touched for its whole term, or whose processes have ended on this machine,
creates a successor: a file named after the token of the lease before it, so only one of two processes succeeds. Leases
form a chain, the last one counts, and no lease is overwritten by another process than its holder. All times come from
the clock of the file system.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from attnbench.process.output import write_unbuffered

_UNKNOWN_START_TIME = "unknown"  # of a process on a system without /proc
_FIRST_LEASE_FILE = "lease.json"
_RENEWALS_PER_TERM = 4  # renewals per term
_MAX_RENEWAL_SECONDS = 60.0  # longest time between renewals
_UNREADABLE = "unreadable"  # host of a lease whose file cannot be read
_WRITE_SECONDS = 0.1  # time that a writer may need; an unreadable file is read again after it


@dataclass(frozen=True)
class LeaseHolder:
    """Holder of a lease."""

    host: str
    machine_id: str  # boot id and process namespace: process ids are comparable only within these
    processes: dict[int, str]  # process ids (the command's first) with their start times
    token: str
    term_seconds: float  # seconds without renewal after which the lease expires
    renewed_at: float = 0.0  # time of the last renewal, by the clock of the file system

    def __str__(self) -> str:
        return f"host {self.host}, pid {next(iter(self.processes), '?')}"

    def is_gone(self, now: float) -> bool:
        """Return True if the holder has ended or stopped renewing.

        Args:
            now: time of the file system's clock.
        """
        if self.host == _UNREADABLE:
            return True
        if self.machine_id == _get_machine_id() and self.processes:
            return not any(when and _get_start_time(pid) == when for pid, when in self.processes.items())
        return now - self.renewed_at > self.term_seconds


_UNKNOWN_HOLDER = LeaseHolder("unknown", "", {}, "", 0.0)  # the lease was taken and released meanwhile


@dataclass(frozen=True)
class Lease:
    """Right to work in `folder` while the lease is renewed."""

    folder: Path
    path: Path
    holder: LeaseHolder

    def is_held(self) -> bool:
        """Return True if this process still holds the lease."""
        chain = _read_chain(self.folder)
        return bool(chain) and chain[-1].token == self.holder.token

    def renew(self) -> bool:
        """Renew the lease.

        Returns:
            False if the lease is lost. A file system that does not answer does not count as a loss.
        """
        try:
            if not self.is_held():
                return False
            os.utime(self.path)
        except OSError:
            pass
        return True

    def register_processes(self, *pids: int) -> None:
        """Store the ids of the processes that work under the lease.

        It does not expire while one of them lives on this machine.
        """
        named = replace(self.holder, processes=self.holder.processes | {pid: _get_start_time(pid) for pid in pids})
        draft = self.folder / f".{self.path.name}.{os.getpid()}.tmp"
        draft.write_text(_serialize_holder(named), encoding="utf-8")
        os.replace(draft, self.path)

    def release(self) -> None:
        """Release the lease. The first file of the chain is removed first, which makes the others invalid."""
        with contextlib.suppress(OSError):
            if self.is_held():
                (self.folder / _FIRST_LEASE_FILE).unlink()
                for path in self.folder.glob("lease.*.json"):
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def keep_renewed(self) -> Iterator[None]:
        """Renew the lease from a thread inside the context; if it is lost, this process ends at once."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(min(self.holder.term_seconds / _RENEWALS_PER_TERM, _MAX_RENEWAL_SECONDS)):
                if not self.renew():
                    write_unbuffered(f"attnbench: {self.folder} now belongs to another command\n")
                    os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            over.set()


def acquire_lease(folder: Path, term: float) -> Lease | LeaseHolder:
    """Acquire the lease on `folder`.

    Args:
        folder: folder of a run.
        term: seconds without renewal after which others may take over.

    Returns:
        The lease, or its current holder.

    Raises:
        OSError: if the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    me, token = os.getpid(), secrets.token_hex(8)
    chain = _read_chain(folder)
    if chain and chain[-1].host == _UNREADABLE:
        time.sleep(_WRITE_SECONDS)
        chain = _read_chain(folder)
    if chain and not chain[-1].is_gone(_read_file_system_time(folder, token)):
        return chain[-1]
    holder = LeaseHolder(socket.gethostname(), _get_machine_id(), {me: _get_start_time(me)}, token, term)
    lease = Lease(folder, _get_successor_path(folder, chain), holder)
    try:
        _create_file(lease.path, _serialize_holder(holder))
    except FileExistsError:
        return (_read_chain(folder) or [_UNKNOWN_HOLDER])[-1]
    if lease.is_held():
        return lease
    lease.path.unlink(missing_ok=True)  # its predecessor was released meanwhile
    return (_read_chain(folder) or [_UNKNOWN_HOLDER])[-1]


def remove_expired_lease(folder: Path) -> None:
    """Remove the lease on `folder` if its holder is gone."""
    if (folder / _FIRST_LEASE_FILE).exists():
        with contextlib.suppress(OSError):
            found = acquire_lease(folder, 60.0)
            if isinstance(found, Lease):
                found.release()


def _create_file(path: Path, text: str) -> None:
    """Create a file together with its content, so that no other process sees it empty.

    Raises:
        FileExistsError: if the file exists.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    finally:
        draft.unlink(missing_ok=True)


def find_holder(folder: Path) -> LeaseHolder | None:
    """Return the holder of the lease on `folder`; None if there is none."""
    chain = _read_chain(folder)
    return chain[-1] if chain else None


def _read_chain(folder: Path) -> list[LeaseHolder]:
    """Return the leases on a folder, from the first to its last successor."""
    found: list[LeaseHolder] = []
    while (held := _read_lease(_get_successor_path(folder, found))) is not None:
        found.append(held)
    return found


def _get_successor_path(folder: Path, chain: list[LeaseHolder]) -> Path:
    return folder / (f"lease.{chain[-1].token}.json" if chain else _FIRST_LEASE_FILE)


def _read_lease(path: Path) -> LeaseHolder | None:
    try:
        with path.open("rb") as file:  # open() refreshes the attributes on NFS
            text, status = file.read(), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
        host, machine_id, token = (str(content[key]) for key in ("host", "machine_id", "token"))
        if not token.isalnum():  # the token is part of a file name
            raise ValueError(token)
        processes = {int(pid): str(when) for pid, when in content["processes"].items()}
        return LeaseHolder(host, machine_id, processes, token, float(content["term_seconds"]), status.st_mtime)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # for example, truncated by a power loss
        return replace(_UNKNOWN_HOLDER, host=_UNREADABLE, token=f"{status.st_ino:x}", renewed_at=status.st_mtime)


def _serialize_holder(holder: LeaseHolder) -> str:
    return json.dumps(asdict(holder))


def _read_file_system_time(folder: Path, token: str) -> float:
    """Return the current time of the clock that the file system of `folder` uses."""
    probe = folder / f".clock.{token}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _get_machine_id() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux: the host name is the best available id
        return socket.gethostname()


def _get_start_time(pid: int) -> str:
    """Return the start time of a process in kernel ticks ("" if there is none), to detect reused process ids."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return "" if Path("/proc/self").exists() else _get_start_time_without_proc(pid)
    except OSError:
        return ""
    return "" if status[0] == "Z" else status[19]


def _get_start_time_without_proc(pid: int) -> str:
    """Return "" if there is no such process, on systems without /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return _UNKNOWN_START_TIME
