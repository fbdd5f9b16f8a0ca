"""What every command shares: output that never ends a run, an exit status for each signal, no figure on a screen."""

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
)  # a file that took no more, where a terminal or reader is gone
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
    """Make a function that returns an exit status into a command: signals and lost output are no tracebacks there.

    Args:
        is_output_result: whether standard output is what the command is for: if the disk that it goes to is full, the
            command has failed.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
            protect_output()
            interrupts.ignore_signals_at_exit()
            os.environ["MPLBACKEND"] = "agg"  # a notebook's, which its processes inherit, is not importable here
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
                    f"standard output: {(lost.strerror or 'cannot be written').lower()}: not all of it is there"
                )
                status = status or 1
            return status

        return guarded

    return decorate


def exit_process(status: int) -> NoReturn:
    """End the process with this status; a signal that comes now changes nothing."""
    interrupts.install_handlers()
    interrupts.ignore_signals()
    sys.exit(status)


def report_interruption(error: BaseException) -> int:
    """Say that a signal has ended the command, unless that has been said; returns the exit status."""
    found = interrupts.find_interruption(error)
    assert isinstance(found, interrupts.Interrupted)
    if not found.is_reported:
        print_error(f"{found}; the same command goes on from there")
    return 128 + found.number


def print_error(message: object) -> None:
    """Print a sentence to standard error."""
    print(f"{_PROGRAM}: {message}", file=sys.stderr, flush=True)


def write_unbuffered(text: str) -> None:
    """Write to standard error past Python's buffers: safe in a signal's handler, and in any thread."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


def supports_cursor_control(stream: TextIO | None) -> bool:
    """Whether lines on `stream` can be written over: a terminal that knows escape codes."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


_replacement_streams: list[TextIO] = []  # what stands for a closed standard input


def is_stdin_closed() -> bool:
    """Return whether this process was started without a standard input."""
    return sys.stdin is None or sys.stdin in _replacement_streams


def protect_output(encoding: str | None = None) -> None:
    """Let standard output and error take whatever is printed, and never raise.

    What was closed when the process started (a daemon's) leads nowhere. Where the process has replaced the streams, as
    tests do, they stay.

    Args:
        encoding: of all three; None: what the locale says, and characters that it lacks are spelled out.
    """
    for descriptor in (0, 1, 2):  # in order: the system gives the lowest that is free
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
            logging.raiseExceptions = False  # else a log that cannot be written is a traceback a line
            setattr(sys, name, _open_stream(descriptor, stream, encoding))
        elif encoding is not None and isinstance(stream, _Output):
            stream.reconfigure(encoding=encoding, errors=_ERROR_HANDLER)


def write_to_descriptors() -> None:
    """Write to descriptors 1 and 2 as they are now, line by line and in UTF-8: for a process of a supervisor's."""
    logging.raiseExceptions = False
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, _open_stream(descriptor, None, "utf-8", line_buffering=True))


class _Output(io.TextIOWrapper):
    """Text to a file descriptor, which takes all of it; `error` is the last reason why some was lost.

    Once the terminal or the reader is gone, the descriptor leads nowhere, for programs that are started here too.
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
        """Send what is still to be written, and what follows, to nobody."""
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            super().flush()

    def _handle_lost_output(self, error: OSError) -> None:
        if isinstance(error, BlockingIOError):  # whoever shares a terminal may have made it so
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
    """Say which file or folder has ended the command; returns the exit status.

    Raises:
        OSError: it is none that a person can mend.
    """
    if error.errno == errno.ENOENT and error.filename is None:
        print_error("the current folder is gone: change to one that exists")
        return 2
    if error.errno not in _FILE_ERRNOS:
        raise error
    print_error(f"{error.filename or 'a folder'}: {(error.strerror or 'cannot be written').lower()}")
    return 1


def _flush_stream(stream: TextIO) -> OSError | None:
    """Flush a stream; returns why some of it was lost, if it was."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    if not isinstance(stream, _Output) or stream.error is None:
        return None
    stream.discard_output()  # else Python tries again when it ends, and complains
    return stream.error


def _replace_characters(error: UnicodeError) -> tuple[str, int]:
    """Spell characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SPELLINGS.get(letter, "?") for letter in error.object[error.start : error.end]), error.end


codecs.register_error(_ERROR_HANDLER, _replace_characters)
