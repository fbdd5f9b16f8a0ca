"""Fixtures every test stands on: no network, no trackers online, real data where it lies."""

from __future__ import annotations

import os
import signal
import socket
import threading
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_SILENT", "true")
# A worker a core, and a thread a worker: threads that wait for each other on a core they share cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# bf16 by instructions that every machine which announces them has: AMX in a virtual machine may kill the process.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")

# A job that a script starts in the background (`nohup make test &`) has SIGINT and SIGHUP ignored, and so would every
# process that a test starts: tests that send these signals need what a terminal gives.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests a longer time limit."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches past this machine fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in (
            "127.0.0.1",
            "::1",
            "localhost",
        ):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def one_at_a_time(plain: dict[str, Enum]) -> dict[str, dict[str, Any]]:
    """The plain choice, and for each other member of each value's Enum what differs where it alone is chosen, by name.

    Tests of what holds of every part run over these: a product of registries would grow with each of them.
    """
    choices = [plain, *({key: other} for key, value in plain.items() for other in type(value) if other is not value)]
    return {",".join(f"{key}={value.name}" for key, value in choice.items()): choice for choice in choices}


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; a test that needs it is skipped where ATTNBENCH_DATA is not set."""
    folder = os.environ.get("ATTNBENCH_DATA")
    if not folder:
        pytest.skip("ATTNBENCH_DATA is not set: no real data here")
    return Path(folder)
