from __future__ import annotations

import os
from pathlib import Path

import pytest

from attnbench.config import Config, ConfigError
from attnbench.config.data import FilesConfig, ParallelTextConfig
from attnbench.config.images import ImageFolderConfig
from attnbench.config.model import TransformerConfig
from attnbench.config.task import TranslationConfig
from attnbench.config.trainer import TrainerConfig
from attnbench.data import checksums
from attnbench.data.checksums import (
    check_loaded,
    compute_data_checksum,
    compute_digest,
    find_missing_files,
    validate_config,
)
from attnbench.data.errors import DataError
from attnbench.data.images import load_image_set as load_images
from attnbench.data.parallel_text import load_parallel_text
from attnbench.records.identity import compute_run_id


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_recent_digests", {})
    monkeypatch.setattr(checksums, "_CACHE_LIFETIME_FACTOR", 0)


def write(path: Path, text: str, at: int = 1_000_000_000) -> str:
    """A file that was changed long ago: one changed just now is read again each time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))
    return str(path)


def files(folder: Path, text: str = "a b\tc d\n") -> FilesConfig:
    return FilesConfig(
        train_source=write(folder / "train.tsv", text),
        val_source=write(folder / "val.tsv", "a\tc\n"),
        batch_tokens=64,
        max_len=32,
    )


def config_of(data: ParallelTextConfig, cache: Path) -> Config:
    config = Config(task=TranslationConfig(), data=data, model=TransformerConfig(), trainer=TrainerConfig(max_steps=1))
    config.paths.cache = str(cache)
    return validate_config(config)


def test_other_content_is_another_run_and_another_place_is_not(tmp_path: Path) -> None:
    first = config_of(files(tmp_path), tmp_path / "cache")
    moved = config_of(files(tmp_path / "elsewhere"), tmp_path / "cache")
    assert isinstance(first.data, FilesConfig)
    assert first.data.checksum is not None
    assert compute_run_id(first) == compute_run_id(moved)
    changed = config_of(files(tmp_path, "a b\tc D\n"), tmp_path / "cache2")  # as long as before
    assert compute_run_id(changed) != compute_run_id(first)


def test_a_changed_file_is_seen_by_its_time_or_its_size(tmp_path: Path) -> None:
    data = files(tmp_path)
    first = compute_data_checksum(data, tmp_path / "cache")
    assert (tmp_path / "cache" / checksums.CACHE_FILE).is_file()
    write(tmp_path / "train.tsv", "x y\tc d\n", at=1_000_000_001)
    second = compute_data_checksum(data, tmp_path / "cache")
    write(tmp_path / "train.tsv", "x y\tc d e\n", at=1_000_000_001)
    third = compute_data_checksum(data, tmp_path / "cache")
    write(tmp_path / "train.tsv", "a b\tc d\n")
    assert len({first, second, third}) == 3
    assert compute_data_checksum(data, tmp_path / "cache") == first


def test_a_file_that_is_not_changed_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = files(tmp_path), tmp_path / "cache"
    first = compute_data_checksum(data, cache)

    def refuse(*args: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(checksums.hashlib, "file_digest", refuse)
    assert compute_data_checksum(data, cache) == first
    os.utime(tmp_path / "val.tsv")  # now: whoever changed it may do so again in the same tick of the clock
    with pytest.raises(AssertionError, match="read again"):
        compute_data_checksum(data, cache)


@pytest.mark.parametrize("spoilt", ["", "[]", '{"a": 3}', "\0", "[" * 100_000])
def test_a_damaged_cache_is_no_cache(tmp_path: Path, spoilt: str) -> None:
    data, cache = files(tmp_path), tmp_path / "cache"
    first = compute_data_checksum(data, cache)
    (cache / checksums.CACHE_FILE).write_text(spoilt)
    assert compute_data_checksum(data, cache) == first


def test_what_was_loaded_is_what_was_looked_at(tmp_path: Path) -> None:
    config = config_of(files(tmp_path), tmp_path / "cache")
    assert isinstance(config.data, FilesConfig)
    check_loaded(config.data, load_parallel_text(config.data, config.paths).checksums)
    write(tmp_path / "train.tsv", "x y\tc d\n")
    with pytest.raises(DataError, match="data=files: changed while the run began"):
        check_loaded(config.data, load_parallel_text(config.data, config.paths).checksums)


def test_a_checksum_is_not_set_by_hand(tmp_path: Path) -> None:
    data = files(tmp_path)
    data.checksum = "abc"
    with pytest.raises(ConfigError, match=r"data\.checksum=abc: expected null: the files have [0-9a-f]{12}"):
        config_of(data, tmp_path / "cache")


def test_pictures_count_with_their_names(tmp_path: Path) -> None:
    from PIL import Image

    for place in ("train/cat/1.png", "train/dog/deep/2.png", "val/cat/3.png"):
        path = tmp_path / "set" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), len(place)).save(path)
    data = ImageFolderConfig(folder=str(tmp_path / "set"), image_size=2)
    found = data.checksum = compute_data_checksum(data, tmp_path / "cache")
    images = load_images(data, Config().paths)
    assert images.checksums[data.folder].startswith(found), "the loader reads the same files"
    check_loaded(data, images.checksums)
    (tmp_path / "set" / "train" / ".hidden").mkdir()
    (tmp_path / "set" / "train" / ".hidden" / "x").touch()
    (tmp_path / "set" / "train" / "cat" / ".x").touch()
    assert compute_data_checksum(data, tmp_path / "cache") == found
    os.rename(tmp_path / "set" / "train" / "cat" / "1.png", tmp_path / "set" / "train" / "dog" / "1.png")
    assert compute_data_checksum(data, tmp_path / "cache") != found, "another class"
    with pytest.raises(DataError, match="data=image_folder: changed while the run began"):
        check_loaded(data, {data.folder: compute_digest({})})


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    data = files(tmp_path)
    assert not list(find_missing_files(data))
    data.test_source = str(tmp_path / "test.tsv")
    assert [fault.key for fault in find_missing_files(data)] == ["data.test_source"]
    assert [fault.key for fault in find_missing_files(ImageFolderConfig(folder=str(tmp_path / "no")))] == [
        "data.folder"
    ]
