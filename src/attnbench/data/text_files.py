"""Lines of text from files, checked: every refusal names the file and the line."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attnbench.data.errors import DataError


@dataclass(frozen=True)
class TextFile:
    """A file's lines, as they stand there, and the SHA-256 of its bytes."""

    path: Path
    lines: list[str]
    sha256: str


def read(path: Path) -> TextFile:
    r"""Read UTF-8 text, a sentence (or a row) a line; only \n and \r\n end a line.

    Raises:
        DataError: no such file, invalid UTF-8, an empty line, no lines at all.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a file of text") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{number}: invalid UTF-8 (byte 0x{raw[error.start]:02x}); expected UTF-8 text"
        ) from error
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if not text:
        raise DataError(f"{path}: no lines; expected a sentence a line")
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            raise DataError(f"{path}:{number}: empty line; expected a sentence")
    return TextFile(path, lines, hashlib.sha256(raw).hexdigest())


def same_length(first: TextFile, second: TextFile) -> None:
    """Two files whose lines belong together.

    Raises:
        DataError: unequal numbers of lines.
    """
    one, two = len(first.lines), len(second.lines)
    if one != two:
        longer = first if one > two else second
        raise DataError(
            f"{longer.path}:{min(one, two) + 1}: has no counterpart: {first.path} has {one:,} lines and "
            f"{second.path} has {two:,}; expected as many"
        )


def columns(file: TextFile, *, exactly: bool) -> Iterator[tuple[str, str]]:
    """The first two of a file's tab-separated columns; `exactly`: there must be no third.

    Raises:
        DataError: another number of columns, or an empty one.
    """
    for number, line in enumerate(file.lines, 1):
        cells = line.split("\t")
        if len(cells) < 2 or (exactly and len(cells) > 2):
            raise DataError(f"{file.path}:{number}: {len(cells)} columns; expected source, tab, target")
        if not cells[0].strip() or not cells[1].strip():
            raise DataError(f"{file.path}:{number}: an empty column; expected source, tab, target")
        yield cells[0], cells[1]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that whoever reads it finds all of it or nothing, its folder made first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
