"""Reads and writes lines of text, the same way for all files; every error names the file and the line."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attnbench.data.errors import DataError

# ASCII, Latin, Greek, Cyrillic, Devanagari, kana, Han, Hangul: the first character of nearly every line.
_VISIBLE_PATTERN = re.compile(
    r"[!-~\u00c0-\u024f\u0391-\u03c9\u0410-\u044f\u0905-\u0939\u3041-\u30fa\u4e00-\u9fff\uac00-\ud7a3]"
)
_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})  # Unicode's general categories of control, format and spaces
# Characters of other categories that draw nothing: a joiner, fillers, the empty Braille cell, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0") | {
    chr(code) for codes in (range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for code in codes
}


@dataclass(frozen=True)
class TextFile:
    """Lines of a file, unchanged, and the SHA-256 of its bytes."""

    path: Path
    lines: list[str]
    sha256: str


def decode_utf8(raw: bytes, location: str | Path) -> str:
    """Decode UTF-8 text; a byte order mark at its start is removed.

    Args:
        raw: bytes of a whole file.
        location: name of the file in messages.

    Raises:
        DataError: for invalid UTF-8, or a NUL character, which UTF-16 has in every ASCII letter.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"invalid UTF-8 (byte 0x{raw[error.start]:02x})"
        raise DataError(f"{location}:{_find_line_number(raw, error.start)}: {found}; expected UTF-8 text") from error
    if "\0" in text:
        number = _find_line_number(raw, raw.index(0))
        raise DataError(f"{location}:{number}: a NUL character (U+0000); expected UTF-8 text (is this UTF-16?)")
    return text


def split_lines(text: str) -> list[str]:
    r"""Split text into lines at \n and \r\n only, as `wc -l` does.

    `str.splitlines` and universal newlines also split at a lone \r, at form feeds, at U+0085 and at U+2028, which
    occur inside
    sentences of real corpora: the lines of two parallel files would no longer match.

    Returns:
        Lines without their ends. The last line needs no end; empty text has no lines.
    """
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file, empty ones included.

    Raises:
        DataError: no such file, invalid UTF-8, a NUL character.
    """
    return split_lines(decode_utf8(_read_bytes(path), path))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    r"""Write text as UTF-8 with \n as line end on every system, so that `read_lines` reads the same lines.

    Args:
        path: file to write.
        lines: lines without line ends.

    Raises:
        ValueError: if a line contains \n.
    """
    lines = list(lines)
    if any("\n" in line for line in lines):
        raise ValueError(f"{path}: expected lines without line feeds")
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def read_text_file(path: Path) -> TextFile:
    r"""Read UTF-8 text with one sentence (or row) in each line; only \n and \r\n end a line.

    Raises:
        DataError: if the file is missing or has no lines, or for invalid UTF-8, a NUL character, or a line without a
            visible character.
    """
    raw = _read_bytes(path)
    text = decode_utf8(raw, path)
    lines = split_lines(text)
    if not lines:
        raise DataError(f"{path}: no lines; expected a sentence a line")
    for number, line in enumerate(lines, 1):
        if is_blank(line):
            raise DataError(f"{path}:{number}: {_describe_blank(line)}; expected a sentence")
    return TextFile(path, lines, hashlib.sha256(raw).hexdigest())


def is_blank(line: str) -> bool:
    """Return True if a line shows nothing.

    Only white space, control characters, zero-width characters and blank letters.
    """
    if _VISIBLE_PATTERN.search(line):  # true for nearly all lines
        return False
    return all(char in _BLANK or unicodedata.category(char) in _INVISIBLE for char in line)


def _describe_blank(line: str) -> str:
    if not line or line.isspace():
        return "empty line"
    found = ", ".join(sorted({f"U+{ord(char):04X}" for char in line if not char.isspace()}))
    return f"no visible character (only {found})"


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a file of text") from error


def _find_line_number(raw: bytes, position: int) -> int:
    """Return the number of the line, counted from 1, that holds a byte."""
    return raw.count(b"\n", 0, position) + 1


def check_same_length(first: TextFile, second: TextFile) -> None:
    """Check that two parallel files have the same number of lines.

    Raises:
        DataError: if they have not.
    """
    one, two = len(first.lines), len(second.lines)
    if one != two:
        longer = first if one > two else second
        raise DataError(
            f"{longer.path}:{min(one, two) + 1}: has no counterpart: {first.path} has {one:,} lines and "
            f"{second.path} has {two:,}; expected as many"
        )


def split_columns(file: TextFile, *, is_exact: bool) -> Iterator[tuple[str, str]]:
    """Yield the first two tab-separated columns of each line.

    Args:
        file: lines.
        is_exact: refuse a third column.

    Raises:
        DataError: for a wrong number of columns, or an empty one.
    """
    for number, line in enumerate(file.lines, 1):
        cells = line.split("\t")
        if len(cells) < 2 or (is_exact and len(cells) > 2):
            raise DataError(f"{file.path}:{number}: {len(cells)} columns; expected source, tab, target")
        if is_blank(cells[0]) or is_blank(cells[1]):
            raise DataError(f"{file.path}:{number}: an empty column; expected source, tab, target")
        yield cells[0], cells[1]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, and its folder, so that readers see either the old content or all of the new content.

    Args:
        path: file to write.
        content: bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
