"""One holder at a time: over commands, machines, and what is left of those that died."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from attnbench.sweeps import lease as module
from attnbench.sweeps.lease import Lease, LeaseHolder, acquire_lease, find_holder


def taken(folder: Path, term: float = 60.0) -> Lease:
    found = acquire_lease(folder, term)
    assert isinstance(found, Lease)
    return found


def left_behind(folder: Path, *, age: float = 0.0, **changes: Any) -> Path:
    """A lease that somebody else took, so many seconds ago."""
    lease = taken(folder)
    content = json.loads(lease.path.read_text()) | {"token": "theirs"} | changes
    lease.path.write_text(json.dumps(content))
    then = lease.path.stat().st_mtime - age
    os.utime(lease.path, (then, then))
    return lease.path


def test_who_comes_second_is_told_who_has_it(tmp_path: Path) -> None:
    first = taken(tmp_path)
    second = acquire_lease(tmp_path, 60.0)
    assert isinstance(second, LeaseHolder)
    assert f"pid {os.getpid()}" in str(second)
    first.release()
    assert find_holder(tmp_path) is None
    assert not list(tmp_path.iterdir())
    assert taken(tmp_path).renew()


def test_a_dead_process_of_this_machine_is_known_at_once(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left_behind(tmp_path, processes={dead.pid: "1"})
    assert taken(tmp_path).is_held()


@pytest.mark.parametrize("name", ["the command", "the run"])
def test_a_lease_lives_as_long_as_its_command_or_its_run(tmp_path: Path, name: str) -> None:
    me = module._get_start_time(os.getpid())
    living = {os.getpid(): me, 999_999_999: "1"} if name == "the command" else {999_999_999: "1", os.getpid(): me}
    left_behind(tmp_path, processes=living, age=1000.0)
    assert isinstance(acquire_lease(tmp_path, 60.0), LeaseHolder)


def test_another_machine_has_its_term(tmp_path: Path) -> None:
    left_behind(tmp_path, machine_id="there", age=50.0)
    assert isinstance(acquire_lease(tmp_path, 10.0), LeaseHolder), "the term is the holder's"
    (tmp_path / "lease.json").unlink()
    left_behind(tmp_path, machine_id="there", age=70.0)
    assert taken(tmp_path).is_held()


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"\xff\xfe\x00", b"null", b"[]", b"[" * 100_000, b'{"processes": []}',
        b'{"host": "a", "machine_id": "b", "token": "../c", "term_seconds": 9, "processes": {}}',
    ],
    ids=["empty", "cut off", "no text", "null", "list", "deep", "no host", "path for a token"],
)  # fmt: skip
def test_a_lease_whose_file_says_nothing_is_void(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lease.json").write_bytes(content)
    lease = taken(tmp_path)
    assert lease.renew()
    assert isinstance(acquire_lease(tmp_path, 60.0), LeaseHolder), "it counts from now on"
    lease.release()
    assert not list(tmp_path.iterdir())


def test_no_other_command_sees_a_lease_without_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    link = os.link

    def looking(source: Any, target: Any) -> None:
        link(source, target)
        seen.append(Path(target).read_bytes())

    monkeypatch.setattr(os, "link", looking)
    lease = taken(tmp_path)
    assert [json.loads(content)["token"] for content in seen] == [lease.holder.token]


def test_a_file_system_without_links_has_leases_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first = taken(tmp_path)
    assert isinstance(acquire_lease(tmp_path, 60.0), LeaseHolder)
    first.release()
    assert not list(tmp_path.iterdir())


def test_a_lease_without_an_end_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_RENEWAL_SECONDS", 0.001)
    lease = taken(tmp_path, math.inf)
    os.utime(lease.path, (0, 0))
    renewed = threading.Event()
    utime = os.utime

    def seen(path: Path) -> None:
        utime(path)
        renewed.set()

    monkeypatch.setattr(os, "utime", seen)
    with lease.keep_renewed():
        assert renewed.wait(20)


def test_a_finished_run_keeps_no_lease_of_a_command_that_was_killed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left_behind(tmp_path, processes={dead.pid: "1"})
    module.remove_expired_lease(tmp_path)
    assert not list(tmp_path.iterdir())
    lease = taken(tmp_path)
    module.remove_expired_lease(tmp_path)
    assert lease.is_held(), "one that somebody holds stays"


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_takers_one_wins(tmp_path: Path, stale: bool) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        if stale:
            left_behind(folder, machine_id="there", age=70.0)
        found: list[Lease | LeaseHolder] = []
        barrier = threading.Barrier(4)

        def one(
            folder: Path = folder, barrier: threading.Barrier = barrier, found: list[Lease | LeaseHolder] = found
        ) -> None:
            barrier.wait()
            found.append(acquire_lease(folder, 60.0))

        takers = [threading.Thread(target=one) for _ in range(4)]
        for taker in takers:
            taker.start()
        for taker in takers:
            taker.join()
        won = [lease for lease in found if isinstance(lease, Lease)]
        assert len(found) == 4
        assert len(won) == 1
        won[0].release()
        assert not list(folder.iterdir())


def test_who_lost_a_lease_learns_of_it_and_leaves_the_new_one_alone(tmp_path: Path) -> None:
    slow = taken(tmp_path)
    slow.path.write_text(slow.path.read_text().replace(slow.holder.machine_id, "there"))
    os.utime(slow.path, (0, 0))
    quick = taken(tmp_path)
    assert not slow.renew()
    slow.release()
    assert quick.renew()


def test_a_taker_who_is_late_follows_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look and its move another one took the run over, did it, and gave it back; a third has it now."""
    left_behind(tmp_path, machine_id="there", age=70.0)
    clock, third = module._read_file_system_time, []

    def meanwhile(folder: Path, token: str) -> float:
        monkeypatch.setattr(module, "_read_file_system_time", clock)
        now = clock(folder, token)
        taken(folder).release()
        third.append(taken(folder))
        return now

    monkeypatch.setattr(module, "_read_file_system_time", meanwhile)
    assert isinstance(acquire_lease(tmp_path, 60.0), LeaseHolder)
    assert third[0].is_held()
    assert [path.name for path in tmp_path.iterdir()] == ["lease.json"]
