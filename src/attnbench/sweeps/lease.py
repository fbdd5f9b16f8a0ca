"""Who may work in a run's folder: one command at a time, over machines and file systems (NFS) alike.

A lease is a file that only one can create (`O_EXCL`). Who holds it touches it while the run lives; who finds one that
was not touched for its whole term, or whose processes are dead on this very machine, creates its successor, a file
named after the token of the lease it follows: of two takers one succeeds. So leases form a chain, the last one counts,
and none is ever written over by another than its holder. Ages are told by the file system's clock alone.
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

_FIRST = "lease.json"
_BEATS = 4  # signs of life in a lease's term
_LONGEST_BEAT = 60.0  # seconds between two of them, however long the term is
_UNREADABLE = "unreadable"  # the host of a lease whose file says nothing
_BEING_WRITTEN = 0.1  # seconds after which a file that says nothing is not one that is just being written


@dataclass(frozen=True)
class Holder:
    """Who has a run, as its lease says."""

    host: str
    place: str  # where a process id means the same: boot and process namespace
    processes: dict[int, str]  # process ids, the command's first, with when each started
    token: str
    term: float  # seconds without a sign of life after which the lease is void
    touched: float = 0.0  # the last sign of life, by the file system's clock

    def __str__(self) -> str:
        return f"host {self.host}, pid {next(iter(self.processes), '?')}"

    def gone(self, now: float) -> bool:
        """Whether nobody is there any more; `now` by the file system's clock."""
        if self.host == _UNREADABLE:
            return True
        if self.place == _place() and self.processes:
            return not any(when and _started(pid) == when for pid, when in self.processes.items())
        return now - self.touched > self.term


_SOMEBODY = Holder("unknown", "", {}, "", 0.0)  # who came first, and is already gone


@dataclass(frozen=True)
class Lease:
    """The right to work in `folder`, for as long as it is renewed."""

    folder: Path
    path: Path
    holder: Holder

    def held(self) -> bool:
        """Whether it is still ours."""
        chain = _chain(self.folder)
        return bool(chain) and chain[-1].token == self.holder.token

    def renew(self) -> bool:
        """Give a sign of life; False if the lease has been lost. A file system that is away is no loss."""
        try:
            if not self.held():
                return False
            os.utime(self.path)
        except OSError:
            pass
        return True

    def name(self, *pids: int) -> None:
        """Let these processes be known as those that work: the lease is not void while one lives."""
        named = replace(self.holder, processes=self.holder.processes | {pid: _started(pid) for pid in pids})
        draft = self.folder / f".{self.path.name}.{os.getpid()}.tmp"
        draft.write_text(_text(named), encoding="utf-8")
        os.replace(draft, self.path)

    def release(self) -> None:
        """Let others in. The first of the chain goes first: with it, all of them are void."""
        with contextlib.suppress(OSError):
            if self.held():
                (self.folder / _FIRST).unlink()
                for path in self.folder.glob("lease.*.json"):
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renew from a thread meanwhile; if the lease is lost, this process ends at once."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(min(self.holder.term / _BEATS, _LONGEST_BEAT)):
                if not self.renew():
                    write_unbuffered(f"attnbench: {self.folder} now belongs to another command\n")
                    os.kill(os.getpid(), signal.SIGKILL)

        threading.Thread(target=beat, daemon=True).start()
        try:
            yield
        finally:
            over.set()


def take(folder: Path, term: float) -> Lease | Holder:
    """The lease on `folder`, or who has it.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    me, token = os.getpid(), secrets.token_hex(8)
    chain = _chain(folder)
    if chain and chain[-1].host == _UNREADABLE:
        time.sleep(_BEING_WRITTEN)
        chain = _chain(folder)
    if chain and not chain[-1].gone(_clock(folder, token)):
        return chain[-1]
    holder = Holder(socket.gethostname(), _place(), {me: _started(me)}, token, term)
    lease = Lease(folder, _after(folder, chain), holder)
    try:
        _create(lease.path, _text(holder))
    except FileExistsError:
        return (_chain(folder) or [_SOMEBODY])[-1]
    if lease.held():
        return lease
    lease.path.unlink(missing_ok=True)  # it followed one that was given back meanwhile
    return (_chain(folder) or [_SOMEBODY])[-1]


def remove_void(folder: Path) -> None:
    """Remove the lease on `folder` if nobody holds it any more: one that a command left which was killed."""
    if (folder / _FIRST).exists():
        with contextlib.suppress(OSError):
            found = take(folder, 60.0)
            if isinstance(found, Lease):
                found.release()


def _create(path: Path, text: str) -> None:
    """Create a file with its content at once, so that no other command sees it empty.

    Raises:
        FileExistsError: there is one already.
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


def holder_of(folder: Path) -> Holder | None:
    """Who has the lease on `folder`, if anybody."""
    chain = _chain(folder)
    return chain[-1] if chain else None


def _chain(folder: Path) -> list[Holder]:
    """The leases on a folder, each the successor of the one before."""
    found: list[Holder] = []
    while (held := _read(_after(folder, found))) is not None:
        found.append(held)
    return found


def _after(folder: Path, chain: list[Holder]) -> Path:
    return folder / (f"lease.{chain[-1].token}.json" if chain else _FIRST)


def _read(path: Path) -> Holder | None:
    try:
        with path.open("rb") as file:  # opening asks an NFS server anew
            text, status = file.read(), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
        host, place, token = (str(content[key]) for key in ("host", "place", "token"))
        if not token.isalnum():  # it names a file
            raise ValueError(token)
        processes = {int(pid): str(when) for pid, when in content["processes"].items()}
        return Holder(host, place, processes, token, float(content["term"]), status.st_mtime)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # cut off by a power loss, say
        return replace(_SOMEBODY, host=_UNREADABLE, token=f"{status.st_ino:x}", touched=status.st_mtime)


def _text(holder: Holder) -> str:
    return json.dumps(asdict(holder))


def _clock(folder: Path, token: str) -> float:
    """What time it is, by the clock that the file system of `folder` stamps files with."""
    probe = folder / f".clock.{token}.tmp"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # no Linux: another machine may have the name, but hardly the same processes
        return socket.gethostname()


def _started(pid: int) -> str:
    """When a process started, in the kernel's ticks, so that a number given anew is not taken for it; "" if none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return "" if Path("/proc/self").exists() else _started_elsewhere(pid)
    except OSError:
        return ""
    return "" if status[0] == "Z" else status[19]


def _started_elsewhere(pid: int) -> str:
    """The same where there is no /proc: whether there is such a process is all that is known."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "some time ago"
