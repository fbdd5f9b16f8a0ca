"""Processes that end together with their parent, by a feature of the Linux kernel.

Importing this module in a fork server makes the server end with its supervisor, even during slow imports.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

SUPERVISOR_VARIABLE = (
    "ATTNBENCH_SUPERVISOR"  # in the environment of a fork server: the id of the process that starts it
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends.

    If the parent is already gone, this process is killed at once.

    Args:
        parent: id of the parent process.
    """
    with contextlib.suppress(AttributeError, OSError):  # no Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


_supervisor = os.environ.pop(SUPERVISOR_VARIABLE, "")
server: int | None = None  # id of the fork server, in the server and its children
if _supervisor.isdecimal():
    end_with_parent(int(_supervisor))
    server = os.getpid()
