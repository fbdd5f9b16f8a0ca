"""Read and write lines of text, the one way for all files; every refusal names the file and the line."""

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

# ASCII, Latin, Greek, Cyrillic, Devanagari, kana, Han, Hangul: what nearly every line begins with.
_CERTAINLY_VISIBLE = re.compile(
    r"[!-~\u00c0-\u024f\u0391-\u03c9\u0410-\u044f\u0905-\u0939\u3041-\u30fa\u4e00-\u9fff\uac00-\ud7a3]"
)
_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})  # Unicode's general categories of control, format and spaces
# Characters of other categories that draw nothing: a joiner, fillers, the empty Braille cell, variation selectors.
_BLANK = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0") | {
    chr(code) for codes in (range(0x180B, 0x1810), range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for code in codes
}


@dataclass(frozen=True)
class TextFile:
    """A file's lines, as they stand there, and the SHA-256 of its bytes."""

    path: Path
    lines: list[str]
    sha256: str


def decode(raw: bytes, where: str | Path) -> str:
    """Decode UTF-8 text; a byte order mark at its beginning is left out.

    Args:
        raw: the bytes of a whole file.
        where: what to call the file in messages.

    Raises:
        DataError: invalid UTF-8, or a NUL character, as UTF-16 has one beside every letter.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"invalid UTF-8 (byte 0x{raw[error.start]:02x})"
        raise DataError(f"{where}:{_line_number(raw, error.start)}: {found}; expected UTF-8 text") from error
    if "\0" in text:
        number = _line_number(raw, raw.index(0))
        raise DataError(f"{where}:{number}: a NUL character (U+0000); expected UTF-8 text (is this UTF-16?)")
    return text


def split_lines(text: str) -> list[str]:
    r"""Split text into lines; only \n and \r\n end one, as for `wc -l`.

    `str.splitlines` and Python's universal newlines also split at a lone \r, at form feeds, at U+0085 and at U+2028,
    which stand inside sentences of real corpora: two files that belong together would no longer agree in their lines.

    Returns:
        The lines without their ends. A last line needs no end; text without any characters has no lines.
    """
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_lines(path: Path) -> list[str]:
    """Read the lines of a UTF-8 text file, empty ones included.

    Raises:
        DataError: no such file, invalid UTF-8, a NUL character.
    """
    return split_lines(decode(_read_bytes(path), path))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    r"""Write text as UTF-8, each line ended by \n on every system, so that `read_lines` reads the same lines.

    Raises:
        ValueError: a line that holds \n.
    """
    lines = list(lines)
    if any("\n" in line for line in lines):
        raise ValueError(f"{path}: expected lines without line feeds")
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())


def read(path: Path) -> TextFile:
    r"""Read UTF-8 text, a sentence (or a row) a line; only \n and \r\n end a line.

    Raises:
        DataError: no such file, invalid UTF-8, a NUL character, a line without a visible character, no lines at all.
    """
    raw = _read_bytes(path)
    text = decode(raw, path)
    lines = split_lines(text)
    if not lines:
        raise DataError(f"{path}: no lines; expected a sentence a line")
    for number, line in enumerate(lines, 1):
        if is_blank(line):
            raise DataError(f"{path}:{number}: {_describe_blank(line)}; expected a sentence")
    return TextFile(path, lines, hashlib.sha256(raw).hexdigest())


def is_blank(line: str) -> bool:
    """Return whether a line shows nothing: white space, control and zero-width characters, and blank letters only."""
    if _CERTAINLY_VISIBLE.search(line):  # all but one line in millions
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


def _line_number(raw: bytes, position: int) -> int:
    """Return the number of the line, counted from 1, that holds a byte."""
    return raw.count(b"\n", 0, position) + 1


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
        if is_blank(cells[0]) or is_blank(cells[1]):
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
