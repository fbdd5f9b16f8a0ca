"""Signals that ask this process to stop: one exception, one exit status and one reason."""

from __future__ import annotations

import atexit
import functools
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 10.0  # seconds; after that, another signal ends a process that is already stopping


class Interrupted(SystemExit):
    """Raised when a signal asks this process to stop; the exit status is 128 + signal number, as in shells.

    It is a SystemExit, so that Hydra does not report it as a failure, and Lightning does not handle it like
    KeyboardInterrupt, after which it ends the process with status 1.
    """

    def __init__(self, number: int, where: str = "", *, is_reported: bool = False) -> None:
        """Create the exception.

        Args:
            number: signal number.
            where: end of the message, such as "after update 12".
            is_reported: whether a message was already printed.
        """
        super().__init__(128 + number)
        self.number, self.where, self.is_reported = number, where, is_reported

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name} {self.where}".rstrip()


@dataclass
class _State:
    """Signals that this process has received."""

    previous_handlers: dict[int, Any] = field(default_factory=dict)  # handlers before ours
    first_signal: int | None = None  # first signal received
    is_raised: bool = False  # whether it has been raised as an exception
    waits_for_check: bool = False  # whether a first signal waits for `raise_if_requested`
    hold_depth: int = 0  # depth of `delay_signals`
    pending: list[int] = field(default_factory=list)  # signals that came while held
    ending_since: float | None = None  # start of an end that must not be interrupted, by time.monotonic


_state = _State()


def install_handlers() -> None:
    """Install the signal handlers in the main thread; an ignored SIGHUP (nohup) stays ignored."""
    global _state
    if _state.previous_handlers or threading.current_thread() is not threading.main_thread():
        return
    _state = _State()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            _state.previous_handlers[number] = signal.signal(number, _handle_signal)


@functools.cache
def ignore_signals_at_exit() -> None:
    """Ignore signals from the end of Python's cleanup on, since the cleanup of libraries takes half a second more.

    Call it early: the function that is registered first runs last.
    """
    atexit.register(_ignore_all)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Handle signals inside the context, unless this process handles them already."""
    if _state.previous_handlers:
        yield
        return
    install_handlers()
    try:
        yield
    finally:
        _restore_handlers()


@contextmanager
def delay_signals() -> Iterator[None]:
    """Delay signals inside the context; they are handled at its end."""
    _state.hold_depth += 1
    try:
        yield
    finally:
        _state.hold_depth -= 1
        while not _state.hold_depth and _state.pending:
            _raise_or_exit(_state.pending.pop(0))


def set_waiting_for_check(waits: bool) -> None:
    """Set whether the first signal waits for the next `raise_if_requested` (True) or interrupts at once (False).

    A second signal never waits.
    """
    _state.waits_for_check = waits


def get_requested_signal() -> int | None:
    """Return the signal that has asked this process to stop, if any."""
    return _state.first_signal


def raise_if_requested(where: str = "") -> None:
    """Raise if a signal has asked this process to stop.

    Args:
        where: end of the message, such as "after update 12".

    Raises:
        Interrupted: a signal was received.
    """
    if _state.first_signal is not None and _state.ending_since is None:
        raise_interrupted(_state.first_signal, where)


def raise_interrupted(number: int, where: str = "", *, is_reported: bool = False) -> NoReturn:
    """Raise `Interrupted` for a signal.

    Args:
        number: signal number.
        where: end of the message.
        is_reported: whether a message was already printed.

    Raises:
        Interrupted: always.
    """
    _state.first_signal, _state.is_raised = _state.first_signal or number, True
    _state.ending_since = time.monotonic()
    raise Interrupted(number, where, is_reported=is_reported)


def ignore_signals() -> None:
    """Ignore signals while this process ends, because its result is complete.

    After ten seconds a signal ends the process at once.
    """
    _state.ending_since = time.monotonic()


def reset_state() -> None:
    """Reset the state before another run in the same process."""
    _state.ending_since, _state.waits_for_check = None, False


def find_interruption(error: BaseException) -> BaseException:
    """Return the interruption that caused `error`; `error` itself if there is none."""
    if isinstance(error, Interrupted):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(signal.SIGINT)
    if _state.is_raised and _state.first_signal is not None:
        return Interrupted(_state.first_signal)
    return error


def parse_signal_number(reason: str) -> int | None:
    """Return the signal number in the text of an `Interrupted`; None if there is none."""
    found = re.search(r"stopped by (SIG[A-Z]+)", reason)
    return int(signal.Signals[found[1]]) if found and found[1] in signal.Signals.__members__ else None


def _ignore_all() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _restore_handlers() -> None:
    global _state
    for number, handler in _state.previous_handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    _state = _State()


def _handle_signal(number: int, frame: FrameType | None) -> None:
    if _state.hold_depth:
        _state.pending.append(number)
    else:
        _raise_or_exit(number)


def _raise_or_exit(number: int) -> None:
    is_first, _state.first_signal = _state.first_signal is None, _state.first_signal or number
    if _state.ending_since is not None:  # the process is ending: an exception now could lose the record
        if time.monotonic() > _state.ending_since + _GRACE_SECONDS:
            os._exit(128 + number)
        return
    if not (is_first and _state.waits_for_check):
        raise_interrupted(_state.first_signal)
