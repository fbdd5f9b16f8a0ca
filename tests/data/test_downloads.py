"""Published sets: found, or fetched and checked, or told where to put what."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from attnbench.data import downloads
from attnbench.data.downloads import RemoteFile
from attnbench.data.errors import DataError

TEXT = b"ein Haus\n"


def digest(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def zipped(member: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, TEXT)
    return buffer.getvalue()


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """A public home on this disk: publish(name, content, digest) is what `set/file` is fetched from."""
    home = tmp_path / "home"
    home.mkdir()

    def publish(name: str, content: bytes, digest: str, member: str | None = None) -> None:
        (home / name).write_bytes(content)
        remote = RemoteFile((home / name).as_uri(), digest, member)
        monkeypatch.setattr(downloads, "REMOTE_FILES", {"multi30k": {"file": remote}})

    return publish


@pytest.mark.parametrize("kind", ["plain", "gz of unpacked", "gz of packed", "zip"])
def test_fetched_checked_and_unpacked(publish: object, tmp_path: Path, kind: str) -> None:
    assert callable(publish)
    packed = {"plain": TEXT, "zip": zipped("a/file")}.get(kind, gzip.compress(TEXT))
    if kind == "zip":
        publish("file.zip", packed, digest(packed, "sha1"), "a/file")
    elif kind == "plain":
        publish("file", packed, digest(TEXT))
    else:
        publish("file.gz", packed, digest(packed if kind == "gz of packed" else TEXT))
    found = downloads.locate_files("multi30k", ["file", "file"], tmp_path / "data")
    assert found == {"file": tmp_path / "data" / "multi30k" / "file"}
    assert found["file"].read_bytes() == TEXT
    assert [path.name for path in found["file"].parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("file", b"another"),
        ("file.gz", b"no gzip"),
        ("file.gz", gzip.compress(TEXT)[:-9]),
        ("file.zip", b"no zip"),
    ],
    ids=["another", "no gzip", "half a gzip", "no zip"],  # a name made of gzip's bytes holds the second they were made
)
def test_what_is_not_the_published_file_is_not_kept(publish: object, tmp_path: Path, name: str, content: bytes) -> None:
    assert callable(publish)
    publish(name, content, digest(TEXT), "a/file" if name.endswith("zip") else None)
    with pytest.raises(DataError, match=r"multi30k/file: no such file, and file://.* gave none .*paths\.data"):
        downloads.locate_files("multi30k", ["file"], tmp_path / "data")
    assert not (tmp_path / "data" / "multi30k" / "file").exists()


def test_an_unreachable_home_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = RemoteFile((tmp_path / "gone").as_uri(), digest(TEXT))
    monkeypatch.setattr(downloads, "REMOTE_FILES", {"multi30k": {"file": gone}})
    with pytest.raises(DataError) as error:
        downloads.locate_files("multi30k", ["file"], tmp_path)
    assert f"{tmp_path}/multi30k/file" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_there_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "multi30k").mkdir()
    path = tmp_path / "multi30k" / "train.en"
    path.write_bytes(TEXT)  # not the published content: the user's choice, but it is told
    assert downloads.locate_files("multi30k", ["train.en"], tmp_path) == {"train.en": path}
    sha256 = {"train.en": hashlib.sha256(TEXT).hexdigest(), "of_my_own.en": "0"}
    assert downloads.describe_differences("multi30k", sha256) == ["multi30k/train.en: not the published file"]
    assert downloads.describe_differences("wmt14", sha256) == []


@pytest.mark.parametrize(("folder", "name"), [("wmt14", "train.en"), ("multi30k", "test_2030.en")])
def test_a_file_without_a_checksum_is_to_be_fetched_by_hand(tmp_path: Path, folder: str, name: str) -> None:
    with pytest.raises(DataError, match=rf"{folder}/{name}: no such file; expected {name} of https://"):
        downloads.locate_files(folder, [name], tmp_path)


def test_the_real_files_are_the_published_ones(real_data: Path) -> None:
    remotes = downloads.REMOTE_FILES["multi30k"]
    assert len(remotes) == 4 * 3 * 2
    found = downloads.locate_files("multi30k", remotes, real_data)
    sha256 = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items()}
    assert downloads.describe_differences("multi30k", sha256) == []
