"""Signals that ask a sweep to stop: caught once, handed on once, and held back where they would hurt."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from attnbench.process.interrupts import SIGNALS
from attnbench.process.output import write_unbuffered


class Watch:
    """Catches the signals meanwhile; `stopped` is the first that came."""

    def __init__(self, pass_on: Callable[[int], None]) -> None:
        """`pass_on` is called with each signal, at any point of the program."""
        self.stopped: int | None = None
        self._pass_on = pass_on
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Watch:
        self.awake, self._waker = os.pipe()
        os.set_blocking(self.awake, False)
        os.set_blocking(self._waker, False)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                self._handlers[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self.awake)
        os.close(self._waker)

    def calm(self) -> None:
        """Let `awake`, which a signal makes readable, wait for the next one."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.awake, 64)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.stopped = self.stopped or number
        # Not print: it may be print that was interrupted.
        write_unbuffered("\nattnbench: stopping once each run is saved; once more to hurry\n")
        self._pass_on(number)
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b".")


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Hold our signals back for a moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
