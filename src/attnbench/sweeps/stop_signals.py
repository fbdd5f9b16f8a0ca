"""Stop signals of a sweep: caught, forwarded once, and blocked where they would do harm."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from attnbench.process.interrupts import SIGNALS
from attnbench.process.output import write_unbuffered


class SignalWatch:
    """Context that catches stop signals; `stop_signal` is the first one that came."""

    def __init__(self, pass_on: Callable[[int], None]) -> None:
        """Store the function that is called with each signal, at any point of the program."""
        self.stop_signal: int | None = None
        self._pass_on = pass_on
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> SignalWatch:
        self.awake, self._waker = os.pipe()
        os.set_blocking(self.awake, False)
        os.set_blocking(self._waker, False)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                self._handlers[number] = signal.signal(number, self._handle_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self.awake)
        os.close(self._waker)

    def clear_wakeup(self) -> None:
        """Clear the wake-up file descriptor, which a signal makes readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.awake, 64)

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_signal = self.stop_signal or number
        # Not print: it may be print that was interrupted.
        write_unbuffered(
            "\nattnbench: stopping after each run has saved a checkpoint; press Ctrl-C again to stop at once\n"
        )
        self._pass_on(number)
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b".")


@contextlib.contextmanager
def block_signals() -> Iterator[None]:
    """Block stop signals inside the context."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
