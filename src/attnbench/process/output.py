"""Output and exit status of all commands: lost output never ends a run, and each signal has its exit status."""

from __future__ import annotations

import codecs
import contextlib
import errno
import functools
import io
import logging
import os
import select
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TextIO

from attnbench.process import interrupts

P = ParamSpec("P")

_ERROR_HANDLER = "attnbench.readable"  # an error handler of encodings
_SPELLINGS = {"±": "+/-", "\u2212": "-", "\u2013": "-", "…": "...", "\u00d7": "x", "→": "->", "≥": ">=", "≤": "<="}
_NO_SPACE_ERRNOS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
)  # the file is full; other errors mean that the terminal or reader is gone
_FILE_ERRNOS = (
    *_NO_SPACE_ERRNOS,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
)
_PROGRAM = "attnbench"


def make_command(*, is_output_result: bool) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Turn a function that returns an exit status into a command without tracebacks for signals and lost output.

    Args:
        is_output_result: whether standard output is the result of the command: if its disk is full, the command
            fails.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
            protect_output()
            interrupts.ignore_signals_at_exit()
            os.environ["MPLBACKEND"] = (
                "agg"  # a notebook's backend, which child processes inherit, cannot be imported here
            )
            with interrupts.handle_signals():
                try:
                    os.getcwd()
                    status = main(*args, **kwargs)
                except (interrupts.Interrupted, KeyboardInterrupt) as error:
                    status = report_interruption(error)
                except OSError as error:
                    status = _report_file_error(error)
                finally:
                    lost = _flush_stream(sys.stdout)
                interrupts.ignore_signals()
            if is_output_result and lost is not None and lost.errno in _NO_SPACE_ERRNOS:
                print_error(
                    f"standard output: {(lost.strerror or 'cannot be written').lower()}: the output is incomplete"
                )
                status = status or 1
            return status

        return guarded

    return decorate


def exit_process(status: int) -> NoReturn:
    """End the process with this status; signals no longer change it."""
    interrupts.install_handlers()
    interrupts.ignore_signals()
    sys.exit(status)


def report_interruption(error: BaseException) -> int:
    """Print that a signal ended the command, unless that was already printed.

    Returns:
        Exit status.
    """
    found = interrupts.find_interruption(error)
    assert isinstance(found, interrupts.Interrupted)
    if not found.is_reported:
        print_error(f"{found}; the same command continues from there")
    return 128 + found.number


def print_error(message: object) -> None:
    """Print a message to standard error."""
    print(f"{_PROGRAM}: {message}", file=sys.stderr, flush=True)


def write_unbuffered(text: str) -> None:
    """Write to standard error without Python's buffers, which is safe in signal handlers and threads."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def supports_cursor_control(stream: TextIO | None) -> bool:
    """Return True if lines on `stream` can be overwritten, as on a terminal with escape codes."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


_replacement_streams: list[TextIO] = []  # streams that replace a closed standard input


def is_stdin_closed() -> bool:
    """Return True if this process was started without standard input."""
    return sys.stdin is None or sys.stdin in _replacement_streams


def protect_output(encoding: str | None = None) -> None:
    """Replace standard output and error by streams that accept any text and never raise.

    Descriptors that were closed at the start (as in a daemon) are opened on the null device. Streams that the process
    has replaced, as in tests, stay.

    Args:
        encoding: encoding of all three streams; None: that of the locale, with replacements for missing characters.
    """
    for descriptor in (0, 1, 2):  # in this order, because the system assigns the lowest free descriptor
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        _replacement_streams.append(open(0, encoding=encoding or "utf-8", closefd=False))  # noqa: SIM115
        sys.stdin = _replacement_streams[-1]
    elif encoding is not None and isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin is sys.__stdin__:
        sys.stdin.reconfigure(encoding=encoding)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream is getattr(sys, f"__{name}__"):
            logging.raiseExceptions = False  # otherwise logging prints a traceback for each line that cannot be written
            setattr(sys, name, _open_stream(descriptor, stream, encoding))
        elif encoding is not None and isinstance(stream, _Output):
            stream.reconfigure(encoding=encoding, errors=_ERROR_HANDLER)


def write_to_descriptors() -> None:
    """Write to the current descriptors 1 and 2, line by line and in UTF-8, in a process of a supervisor."""
    logging.raiseExceptions = False
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, _open_stream(descriptor, None, "utf-8", line_buffering=True))


class _Output(io.TextIOWrapper):
    """Text stream to a file descriptor that never raises; `error` is the last reason for lost text.

    When the terminal or the reader is gone, the descriptor is redirected to the null device, for child processes too.
    """

    def __init__(self, descriptor: int, encoding: str, *, line_buffering: bool) -> None:
        file = io.FileIO(descriptor, "w", closefd=False)
        super().__init__(io.BufferedWriter(file), encoding, _ERROR_HANDLER, line_buffering=line_buffering)
        self.error: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            super().write(text)
        except OSError as error:
            self._handle_lost_output(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._handle_lost_output(error)

    def discard_output(self) -> None:
        """Discard pending and later output."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            super().flush()

    def _handle_lost_output(self, error: OSError) -> None:
        if isinstance(error, BlockingIOError):  # another process may have set the shared terminal to non-blocking
            while isinstance(error, BlockingIOError):
                select.select([], [self.fileno()], [], 1.0)
                try:
                    super().flush()
                    return
                except OSError as again:
                    error = again
        self.error = error
        if error.errno not in _NO_SPACE_ERRNOS:
            self.discard_output()


def _open_stream(
    descriptor: int, before: TextIO | None, encoding: str | None, *, line_buffering: bool | None = None
) -> io.TextIOWrapper:
    if before is not None:
        with contextlib.suppress(OSError, ValueError):
            before.flush()
    lines = (descriptor == 2 or os.isatty(descriptor)) if line_buffering is None else line_buffering
    chosen = encoding or (before.encoding if before is not None else "utf-8")
    return _Output(descriptor, chosen, line_buffering=lines)


def _report_file_error(error: OSError) -> int:
    """Print which file or folder ended the command.

    Returns:
        Exit status.

    Raises:
        OSError: the error is not one of files.
    """
    if error.errno == errno.ENOENT and error.filename is None:
        print_error("the current folder no longer exists: change to one that exists")
        return 2
    if error.errno not in _FILE_ERRNOS:
        raise error
    print_error(f"{error.filename or 'a folder'}: {(error.strerror or 'cannot be written').lower()}")
    return 1


def _flush_stream(stream: TextIO) -> OSError | None:
    """Flush a stream; return the error if text was lost."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    if not isinstance(stream, _Output) or stream.error is None:
        return None
    stream.discard_output()  # otherwise Python flushes again at exit and prints an error
    return stream.error


def _replace_characters(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SPELLINGS.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


codecs.register_error(_ERROR_HANDLER, _replace_characters)
