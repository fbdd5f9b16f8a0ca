"""Signals that ask this process to stop: one exception, one exit status and one reason, whatever it is doing."""

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
_GRACE_SECONDS = 10.0  # seconds that the end of a process may take before another signal ends it at once


class Interrupted(SystemExit):
    """A signal has asked this process to stop; the exit status is 128 + its number, as a shell has it.

    A SystemExit, so that Hydra does not take it for a failure, and Lightning not for a KeyboardInterrupt, which it ends
    the process for, with status 1.
    """

    def __init__(self, number: int, where: str = "", *, is_reported: bool = False) -> None:
        """Name the signal.

        Args:
            number: of the signal.
            where: what follows in the reason, such as "after update 12".
            is_reported: whether a person has been told already.
        """
        super().__init__(128 + number)
        self.number, self.where, self.is_reported = number, where, is_reported

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name} {self.where}".rstrip()


@dataclass
class _State:
    """What this process knows of the signals that it got."""

    previous_handlers: dict[int, Any] = field(default_factory=dict)  # handlers that were there before ours
    first_signal: int | None = None  # the signal that came first
    is_raised: bool = False  # whether it has been raised as an exception
    waits_for_check: bool = False  # whether a first signal waits for `raise_if_requested`
    hold_depth: int = 0  # depth of `delay_signals`
    pending: list[int] = field(default_factory=list)  # signals that came while held
    ending_since: float | None = None  # since when nothing may be interrupted any more, by time.monotonic


_state = _State()


def install_handlers() -> None:
    """Take the signals from now on, in the main thread; a SIGHUP that is ignored (nohup) stays ignored."""
    global _state
    if _state.previous_handlers or threading.current_thread() is not threading.main_thread():
        return
    _state = _State()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            _state.previous_handlers[number] = signal.signal(number, _handle_signal)


@functools.cache
def ignore_signals_at_exit() -> None:
    """Have the signals ignored from the end of Python's own clean-up: the libraries' takes half a second more.

    Call it early: what is registered first runs last.
    """
    atexit.register(_ignore_all)


@contextmanager
def handle_signals() -> Iterator[None]:
    """Take the signals meanwhile, unless this process does so already."""
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
    """Let no signal interrupt what is done meanwhile; one that comes is acted on at the end."""
    _state.hold_depth += 1
    try:
        yield
    finally:
        _state.hold_depth -= 1
        while not _state.hold_depth and _state.pending:
            _raise_or_exit(_state.pending.pop(0))


def set_waiting_for_check(waits: bool) -> None:
    """Let a first signal wait for the next `raise_if_requested` (True), or interrupt at once (False).

    A second one never waits.
    """
    _state.waits_for_check = waits


def get_requested_signal() -> int | None:
    """Return the signal that has asked this process to stop, if one has."""
    return _state.first_signal


def raise_if_requested(where: str = "") -> None:
    """Stop here if a signal has asked for it.

    Raises:
        Interrupted: one has.
    """
    if _state.first_signal is not None and _state.ending_since is None:
        raise_interrupted(_state.first_signal, where)


def raise_interrupted(number: int, where: str = "", *, is_reported: bool = False) -> NoReturn:
    """Stop this process as the signal `number` does.

    Raises:
        Interrupted: always.
    """
    _state.first_signal, _state.is_raised = _state.first_signal or number, True
    _state.ending_since = time.monotonic()
    raise Interrupted(number, where, is_reported=is_reported)


def ignore_signals() -> None:
    """Let no signal interrupt how this process ends: its result is there. After ten seconds, one ends it at once."""
    _state.ending_since = time.monotonic()


def reset_state() -> None:
    """Begin anew, for another run in the same process."""
    _state.ending_since, _state.waits_for_check = None, False


def find_interruption(error: BaseException) -> BaseException:
    """Return the interruption that `error` is, or only follows from; else `error` itself."""
    if isinstance(error, Interrupted):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted(signal.SIGINT)
    if _state.is_raised and _state.first_signal is not None:
        return Interrupted(_state.first_signal)
    return error


def parse_signal_number(reason: str) -> int | None:
    """Return the signal that a reason, the text of an `Interrupted`, names."""
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
    if _state.ending_since is not None:  # it ends already: an exception now would only cost the record
        if time.monotonic() > _state.ending_since + _GRACE_SECONDS:
            os._exit(128 + number)
        return
    if not (is_first and _state.waits_for_check):
        raise_interrupted(_state.first_signal)
