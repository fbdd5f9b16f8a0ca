"""Files of text: what is refused, by the message it gets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from attnbench.data.errors import DataError
from attnbench.data.text_files import (
    check_same_length,
    is_blank,
    read_lines,
    read_text_file,
    split_columns,
    split_lines,
    write_atomically,
    write_lines,
)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"one\ntwo \xc3\xa9\n",
        b"one\ntwo \xc3\xa9",
        b"one\r\ntwo \xc3\xa9\r\n",
        b"\xef\xbb\xbfone\ntwo \xc3\xa9",
    ],
)
def test_lines(tmp_path: Path, content: bytes) -> None:
    file = read_text_file(write(tmp_path / "a.txt", content))
    assert file.lines == ["one", "two é"]
    assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    assert read_text_file(write(tmp_path / "a", "a\u2028b\x0bc\x85d\ne".encode())).lines == ["a\u2028b\x0bc\x85d", "e"]


# Everything that str.splitlines or universal newlines would split at, inside a line.
INSIDE = "a\rb\x0bc\x0cd\x1ce\x1df\x1eg\x85h\u2028i\u2029j"


def test_lines_that_are_written_are_read_again(tmp_path: Path) -> None:
    lines = [INSIDE, "", "é ", INSIDE]
    write_lines(tmp_path / "a", lines)
    assert (tmp_path / "a").read_bytes().count(b"\n") == 4
    assert read_lines(tmp_path / "a") == lines
    with pytest.raises(ValueError, match="without line feeds"):
        write_lines(tmp_path / "a", ["a\nb"])


@pytest.mark.parametrize(
    ("text", "lines"),
    [("", []), ("\n", [""]), ("a", ["a"]), ("a\r\n\r\nb\r\n", ["a", "", "b"]), ("\n\na\n\n", ["", "", "a", ""])],
)
def test_lines_are_counted_as_by_wc(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines
    assert text.count("\n") == len(lines) - (text[-1:] not in ("", "\n"))


@pytest.mark.parametrize(
    "line", ["", " \t", "\u200b", "\ufeff\u200d", "\x00", "\u3164", "\u2800\u3000", "\u2028", "\ufe0f", "\x85"]
)
def test_a_line_that_shows_nothing_is_blank(line: str) -> None:
    assert is_blank(line)


@pytest.mark.parametrize("line", ["a", "\u200b.", "日", "ب", "😀", "¿", "\u0301", "\ue000", "\U0001fae9", "한", "ก"])
def test_a_line_that_shows_something_is_not(line: str) -> None:
    assert not is_blank(line)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"one\n\nthree\n", ":2: empty line; expected a sentence"),
        (b"one\n \t\n", ":2: empty line; expected a sentence"),
        (b"one\n\n", ":2: empty line; expected a sentence"),
        (b"one\ntwo\nth\xffree\n", ":3: invalid UTF-8 (byte 0xff); expected UTF-8 text"),
        (b"", ": no lines; expected a sentence a line"),
        ("one\n\u200b \u200d\n".encode(), ":2: no visible character (only U+200B, U+200D); expected a sentence"),
        (b"one\nt\0wo\n", ":2: a NUL character (U+0000); expected UTF-8 text (is this UTF-16?)"),
        ("one\n".encode("utf-16-le"), ":1: a NUL character (U+0000); expected UTF-8 text (is this UTF-16?)"),
    ],
)
def test_refused_with_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "bad.txt", content)
    with pytest.raises(DataError) as error:
        read_text_file(path)
    assert str(error.value) == f"{path}{message}"


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: No such file or directory; expected a file of text"):
        read_text_file(tmp_path / "none.txt")
    with pytest.raises(DataError, match="Is a directory"):
        read_text_file(tmp_path)


def test_unequal_line_counts(tmp_path: Path) -> None:
    one, two = (
        read_text_file(write(tmp_path / "a.en", b"1\n2\n3\n")),
        read_text_file(write(tmp_path / "a.de", b"1\n2\n")),
    )
    check_same_length(one, one)
    with pytest.raises(DataError, match=r"a\.en:3: has no counterpart: .*a\.en has 3 lines and .*a\.de has 2"):
        check_same_length(one, two)


def test_columns(tmp_path: Path) -> None:
    file = read_text_file(write(tmp_path / "a.tsv", b"a\tb\nc\td\te\n"))
    assert list(split_columns(file, is_exact=False)) == [("a", "b"), ("c", "d")]
    with pytest.raises(DataError, match=r"a\.tsv:2: 3 columns; expected source, tab, target"):
        list(split_columns(file, is_exact=True))
    for content, message in (
        (b"a\tb\nc\n", ":2: 1 columns"),
        (b"a\tb\n \td\n", ":2: an empty column"),
        ("a\t\u200b\n".encode(), ":1: an empty column"),
    ):
        with pytest.raises(DataError, match=message):
            list(split_columns(read_text_file(write(tmp_path / "b.tsv", content)), is_exact=True))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, b"first")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_atomically(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]
