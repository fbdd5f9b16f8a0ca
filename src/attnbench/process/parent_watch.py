"""Processes that end with their parent, at every moment: by the kernel where it offers that (Linux).

Importing this in a fork server makes the server end with its supervisor, before it imports anything that takes seconds.
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
    """Have the kernel kill this process once the thread that started it is gone; at once if it is gone already.

    Args:
        parent: the id of the process that started this one.
    """
    with contextlib.suppress(AttributeError, OSError):  # no Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


_supervisor = os.environ.pop(SUPERVISOR_VARIABLE, "")
server: int | None = None  # the id of the fork server, in it and in the processes that are forked from it
if _supervisor.isdecimal():
    end_with_parent(int(_supervisor))
    server = os.getpid()
