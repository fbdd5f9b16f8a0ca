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
from attnbench.data.checksums import check, check_loaded, combine_all, content_of, missing
from attnbench.data.errors import DataError
from attnbench.data.images import load as load_images
from attnbench.data.parallel_text import load
from attnbench.records.identity import run_id


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "_recent", {})
    monkeypatch.setattr(checksums, "_TIMES", 0)


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
    return check(config)


def test_other_content_is_another_run_and_another_place_is_not(tmp_path: Path) -> None:
    first = config_of(files(tmp_path), tmp_path / "cache")
    moved = config_of(files(tmp_path / "elsewhere"), tmp_path / "cache")
    assert isinstance(first.data, FilesConfig)
    assert first.data.content is not None
    assert run_id(first) == run_id(moved)
    changed = config_of(files(tmp_path, "a b\tc D\n"), tmp_path / "cache2")  # as long as before
    assert run_id(changed) != run_id(first)


def test_a_changed_file_is_seen_by_its_time_or_its_size(tmp_path: Path) -> None:
    data = files(tmp_path)
    first = content_of(data, tmp_path / "cache")
    assert (tmp_path / "cache" / checksums.CACHE).is_file()
    write(tmp_path / "train.tsv", "x y\tc d\n", at=1_000_000_001)
    second = content_of(data, tmp_path / "cache")
    write(tmp_path / "train.tsv", "x y\tc d e\n", at=1_000_000_001)
    third = content_of(data, tmp_path / "cache")
    write(tmp_path / "train.tsv", "a b\tc d\n")
    assert len({first, second, third}) == 3
    assert content_of(data, tmp_path / "cache") == first


def test_a_file_that_is_not_changed_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, cache = files(tmp_path), tmp_path / "cache"
    first = content_of(data, cache)

    def refuse(*args: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(checksums.hashlib, "file_digest", refuse)
    assert content_of(data, cache) == first
    os.utime(tmp_path / "val.tsv")  # now: whoever changed it may do so again in the same tick of the clock
    with pytest.raises(AssertionError, match="read again"):
        content_of(data, cache)


@pytest.mark.parametrize("spoilt", ["", "[]", '{"a": 3}', "\0", "[" * 100_000])
def test_a_damaged_cache_is_no_cache(tmp_path: Path, spoilt: str) -> None:
    data, cache = files(tmp_path), tmp_path / "cache"
    first = content_of(data, cache)
    (cache / checksums.CACHE).write_text(spoilt)
    assert content_of(data, cache) == first


def test_what_was_loaded_is_what_was_looked_at(tmp_path: Path) -> None:
    config = config_of(files(tmp_path), tmp_path / "cache")
    assert isinstance(config.data, FilesConfig)
    check_loaded(config.data, load(config.data, config.paths).checksums)
    write(tmp_path / "train.tsv", "x y\tc d\n")
    with pytest.raises(DataError, match="data=files: changed while the run began"):
        check_loaded(config.data, load(config.data, config.paths).checksums)


def test_a_checksum_is_not_set_by_hand(tmp_path: Path) -> None:
    data = files(tmp_path)
    data.content = "abc"
    with pytest.raises(ConfigError, match=r"data\.content=abc: expected null: the files have [0-9a-f]{12}"):
        config_of(data, tmp_path / "cache")


def test_pictures_count_with_their_names(tmp_path: Path) -> None:
    from PIL import Image

    for place in ("train/cat/1.png", "train/dog/deep/2.png", "val/cat/3.png"):
        path = tmp_path / "set" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), len(place)).save(path)
    data = ImageFolderConfig(folder=str(tmp_path / "set"), image_size=2)
    found = data.content = content_of(data, tmp_path / "cache")
    images = load_images(data, Config().paths)
    assert images.checksums[data.folder].startswith(found), "the loader reads the same files"
    check_loaded(data, images.checksums)
    (tmp_path / "set" / "train" / ".hidden").mkdir()
    (tmp_path / "set" / "train" / ".hidden" / "x").touch()
    (tmp_path / "set" / "train" / "cat" / ".x").touch()
    assert content_of(data, tmp_path / "cache") == found
    os.rename(tmp_path / "set" / "train" / "cat" / "1.png", tmp_path / "set" / "train" / "dog" / "1.png")
    assert content_of(data, tmp_path / "cache") != found, "another class"
    with pytest.raises(DataError, match="data=image_folder: changed while the run began"):
        check_loaded(data, {data.folder: combine_all({})})


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    data = files(tmp_path)
    assert not list(missing(data))
    data.test_source = str(tmp_path / "test.tsv")
    assert [fault.key for fault in missing(data)] == ["data.test_source"]
    assert [fault.key for fault in missing(ImageFolderConfig(folder=str(tmp_path / "no")))] == ["data.folder"]
