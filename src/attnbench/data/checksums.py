"""What is in the user's own files: checksums, which make a run on other content another run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attnbench import config as schema
from attnbench.config import Config, ConfigError, Fault
from attnbench.config.data import DataConfig, FilesConfig
from attnbench.config.images import ImageFolderConfig
from attnbench.data.errors import DataError
from attnbench.data.text_files import write_atomically

CACHE = "checksums.json"  # below paths.cache
FILES = ("train_source", "train_target", "val_source", "val_target", "test_source", "test_target")
SPLITS = ("train", "val", "test")

_DIGITS = 12  # as many as a run_id has
_SETTLED_NS = 2_000_000_000  # a file that was changed since may change again without another time of change
_TIMES = 20  # looking at all files again may take this fraction of a command's time

_Known = dict[str, tuple[int, int, str]]  # by absolute path: time of change in ns, size in bytes, SHA-256
_recent: dict[tuple[str, ...], tuple[float, str]] = {}  # by set of files: until when it is valid, and its digest


def check(cfg: Any) -> Config:
    """Do what `attnbench.config.check` does, and fill in `data.content` where the data are the user's own.

    Raises:
        ConfigError: with every fault found.
    """
    config = schema.check(cfg)
    data = config.data
    if isinstance(data, (FilesConfig, ImageFolderConfig)):
        with contextlib.suppress(OSError):  # `missing` refuses it in a command, and the loader in a run
            found = content_of(data, Path(config.paths.cache))
            if data.content not in (None, found):
                raise ConfigError([Fault("data.content", f"{data.content}", f"expected null: the files have {found}")])
            data.content = found
    return config


def missing(data: DataConfig) -> Iterator[Fault]:
    """Yield a fault for each key that names a file or folder of the user's own which is not there."""
    if isinstance(data, FilesConfig):
        for key in FILES:
            path = getattr(data, key)
            if path is not None and not Path(path).is_file():
                yield Fault(f"data.{key}", path, "expected a file that is there")
    elif isinstance(data, ImageFolderConfig) and not Path(data.folder).is_dir():
        yield Fault("data.folder", data.folder, "expected a folder that is there")


def content_of(data: FilesConfig | ImageFolderConfig, cache: Path) -> str:
    """Compute the digest of all files that `data` names.

    A file is read again only where its time of change or its size is not what it was.

    Args:
        data: a data set of the user's own.
        cache: the folder in which checksums are kept.

    Returns:
        Hexadecimal digits that depend on the files' content alone (of pictures, also on their names below the folder).

    Raises:
        OSError: a file cannot be read.
    """
    named = tuple(str(getattr(data, key)) for key in FILES) if isinstance(data, FilesConfig) else (data.folder,)
    key = (data.family, str(cache.absolute()), *(os.path.abspath(path) for path in named))
    valid_until, found = _recent.get(key, (0.0, ""))
    began = time.monotonic()
    if began < valid_until:
        return found
    found = combine(_checksums(_files(data), cache / CACHE))
    now = time.monotonic()
    _recent[key] = (now + _TIMES * (now - began), found)
    return found


def check_loaded(data: DataConfig, checksums: Mapping[str, str]) -> None:
    """Check that what a loader has read is what `data.content` was computed of.

    Args:
        data: of the run's config.
        checksums: SHA-256 by file, as the loader found them; of an image folder, `combine_all` of its files.

    Raises:
        DataError: a file was changed in between.
    """
    if isinstance(data, FilesConfig):
        found = combine({key: checksums[path] for key in FILES if (path := getattr(data, key)) is not None})
    elif isinstance(data, ImageFolderConfig):
        found = checksums[data.folder][:_DIGITS]
    else:
        return
    if data.content not in (None, found):
        raise DataError(f"data={data.family}: changed while the run began; expected files that stay as they are")


def combine(sha256: Mapping[str, str]) -> str:
    """Return the first digits of `combine_all`."""
    return combine_all(sha256)[:_DIGITS]


def combine_all(sha256: Mapping[str, str]) -> str:
    """Compute one SHA-256 of many files: of the lines that sha256sum prints for them, sorted by name."""
    lines = (f"{sha256[name]}  ".encode() + os.fsencode(name) + b"\n" for name in sorted(sha256))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _files(data: FilesConfig | ImageFolderConfig) -> dict[str, Path]:
    """Return the files that a loader reads, by the name under which their checksum counts."""
    if isinstance(data, FilesConfig):
        return {key: Path(path) for key in FILES if (path := getattr(data, key)) is not None}
    folder, found = Path(data.folder), dict[str, Path]()
    for split in SPLITS:
        if split != "train" and not (folder / split).is_dir():
            continue
        for kind in sorted(os.scandir(folder / split), key=lambda entry: entry.name):
            if kind.is_dir() and not kind.name.startswith("."):
                found |= {path.relative_to(folder).as_posix(): path for path in _below(Path(kind.path))}
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; hidden ones, and those in hidden folders, are none of the data."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _checksums(files: Mapping[str, Path], cache: Path) -> dict[str, str]:
    """Compute the SHA-256 of each file, or look it up in the file `cache`."""
    known, found, added = _read_cache(cache), dict[str, str](), False
    for name, path in files.items():
        status = path.stat()
        key, state = os.path.abspath(path), (status.st_mtime_ns, status.st_size)
        if key in known and known[key][:2] == state:
            found[name] = known[key][2]
            continue
        with path.open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - status.st_mtime_ns > _SETTLED_NS:
            known[key], added = (*state, found[name]), True
    if added:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
            write_atomically(cache, json.dumps(known).encode())
    return found


def _read_cache(cache: Path) -> _Known:
    """Read what is known of files; what does not look like it is left out."""
    try:
        content = json.loads(cache.read_bytes())
        return {str(path): (int(at), int(size), str(digest)) for path, (at, size, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
