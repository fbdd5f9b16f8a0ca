"""Checksums of the user's own files, which are part of a run's identity: other content makes another run."""

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

CACHE_FILE = "checksums.json"  # below paths.cache
FILE_KEYS = ("train_source", "train_target", "val_source", "val_target", "test_source", "test_target")
SPLITS = ("train", "val", "test")

_DIGEST_LENGTH = 12  # as many as a run_id has
_MIN_FILE_AGE_NS = (
    2_000_000_000  # a file changed this recently may change again within the resolution of its time stamp
)
_CACHE_LIFETIME_FACTOR = 20  # largest fraction of a command's time for checking files again

_KnownFiles = dict[str, tuple[int, int, str]]  # by absolute path: time of change in ns, size in bytes, SHA-256
_recent_digests: dict[
    tuple[str, ...], tuple[float, str]
] = {}  # by set of files: until when it is valid, and its digest


def validate_config(cfg: Any) -> Config:
    """Validate a config as `attnbench.config.validate_config` does, and fill in `data.checksum` for the user's data.

    Raises:
        ConfigError: with every fault found.
    """
    config = schema.validate_config(cfg)
    data = config.data
    if isinstance(data, (FilesConfig, ImageFolderConfig)):
        with contextlib.suppress(OSError):  # missing files are reported by `find_missing_files` and by the loader
            found = compute_data_checksum(data, Path(config.paths.cache))
            if data.checksum not in (None, found):
                raise ConfigError(
                    [Fault("data.checksum", f"{data.checksum}", f"expected null: the files have {found}")]
                )
            data.checksum = found
    return config


def find_missing_files(data: DataConfig) -> Iterator[Fault]:
    """Yield a fault for each key that names a file or folder of the user which does not exist."""
    if isinstance(data, FilesConfig):
        for key in FILE_KEYS:
            path = getattr(data, key)
            if path is not None and not Path(path).is_file():
                yield Fault(f"data.{key}", path, "expected a file that is there")
    elif isinstance(data, ImageFolderConfig) and not Path(data.folder).is_dir():
        yield Fault("data.folder", data.folder, "expected an existing folder")


def compute_data_checksum(data: FilesConfig | ImageFolderConfig, cache: Path) -> str:
    """Compute the digest of all files that `data` names.

    A file is read again only if its modification time or size has changed.

    Args:
        data: config of the user's own data set.
        cache: folder in which checksums are kept.

    Returns:
        Hexadecimal digits that depend only on the content of the files (for images also on their relative paths).

    Raises:
        OSError: if a file cannot be read.
    """
    named = tuple(str(getattr(data, key)) for key in FILE_KEYS) if isinstance(data, FilesConfig) else (data.folder,)
    key = (data.family, str(cache.absolute()), *(os.path.abspath(path) for path in named))
    valid_until, found = _recent_digests.get(key, (0.0, ""))
    started = time.monotonic()
    if started < valid_until:
        return found
    found = compute_short_digest(_compute_checksums(_list_data_files(data), cache / CACHE_FILE))
    now = time.monotonic()
    _recent_digests[key] = (now + _CACHE_LIFETIME_FACTOR * (now - started), found)
    return found


def check_loaded(data: DataConfig, checksums: Mapping[str, str]) -> None:
    """Check that a loader has read the files that `data.checksum` was computed from.

    Args:
        data: data config of the run.
        checksums: SHA-256 of each file that the loader read; for an image folder, the result of `compute_digest`.

    Raises:
        DataError: if a file was changed in between.
    """
    if isinstance(data, FilesConfig):
        found = compute_short_digest(
            {key: checksums[path] for key in FILE_KEYS if (path := getattr(data, key)) is not None}
        )
    elif isinstance(data, ImageFolderConfig):
        found = checksums[data.folder][:_DIGEST_LENGTH]
    else:
        return
    if data.checksum not in (None, found):
        raise DataError(f"data={data.family}: changed while the run began; expected files that stay as they are")


def compute_short_digest(sha256: Mapping[str, str]) -> str:
    """Return the first digits of `compute_digest`."""
    return compute_digest(sha256)[:_DIGEST_LENGTH]


def compute_digest(sha256: Mapping[str, str]) -> str:
    """Compute one SHA-256 of many files: of the lines that sha256sum prints for them, sorted by name."""
    lines = (f"{sha256[name]}  ".encode() + os.fsencode(name) + b"\n" for name in sorted(sha256))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _list_data_files(data: FilesConfig | ImageFolderConfig) -> dict[str, Path]:
    """Return the files that a loader reads, by the name that goes into the checksum."""
    if isinstance(data, FilesConfig):
        return {key: Path(path) for key in FILE_KEYS if (path := getattr(data, key)) is not None}
    folder, found = Path(data.folder), dict[str, Path]()
    for split in SPLITS:
        if split != "train" and not (folder / split).is_dir():
            continue
        for kind in sorted(os.scandir(folder / split), key=lambda entry: entry.name):
            if kind.is_dir() and not kind.name.startswith("."):
                found |= {path.relative_to(folder).as_posix(): path for path in _list_files_below(Path(kind.path))}
    return found


def _list_files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, except hidden ones and those in hidden folders."""
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _compute_checksums(files: Mapping[str, Path], cache: Path) -> dict[str, str]:
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
        if time.time_ns() - status.st_mtime_ns > _MIN_FILE_AGE_NS:
            known[key], added = (*state, found[name]), True
    if added:
        with contextlib.suppress(OSError):  # without a cache, checksums are only slower
            write_atomically(cache, json.dumps(known).encode())
    return found


def _read_cache(cache: Path) -> _KnownFiles:
    """Read the known checksums; invalid entries are left out."""
    try:
        content = json.loads(cache.read_bytes())
        return {str(path): (int(at), int(size), str(digest)) for path, (at, size, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
