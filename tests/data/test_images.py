"""Sets of pictures: Fashion-MNIST as published and as it may lie about, folders of one's own, drawn garments."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import shutil
import struct
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torchvision.datasets import FashionMNIST

from attnbench.config.images import (
    Channels,
    FashionMnistConfig,
    ImageFolderConfig,
    ImagesConfig,
    SyntheticGarmentsConfig,
)
from attnbench.config.tracking import PathsConfig
from attnbench.data import images, synthetic_garments
from attnbench.data.errors import DataError
from attnbench.data.images import FASHION_MNIST_SHA256, Images, ImageSet, load_image_set

TRAIN, TEST = 20, 7
RAW = "FashionMNIST/raw"


def load_in(data: Path, config: ImagesConfig) -> ImageSet:
    return load_image_set(config, PathsConfig(data=str(data)))


def refusal(data: Path, config: ImagesConfig) -> str:
    """The sentence a set is refused with."""
    with pytest.raises(DataError) as error:
        load_in(data, config)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- Fashion-MNIST


def idx(array: npt.ArrayLike) -> bytes:
    values = np.asarray(array, dtype=np.uint8)
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, dtype=">u4").tobytes() + values.tobytes()


def pictures(count: int) -> npt.NDArray[np.uint8]:
    """Every picture of one level: its number."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 28, 28))


def idx_files() -> dict[str, bytes]:
    return {
        "train-images-idx3-ubyte": idx(pictures(TRAIN)),
        "train-labels-idx1-ubyte": idx(np.arange(TRAIN) % 10),
        "t10k-images-idx3-ubyte": idx(pictures(TEST)),
        "t10k-labels-idx1-ubyte": idx(np.arange(TEST)),
    }


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A data folder with 20 and 7 pictures."""
    (tmp_path / RAW).mkdir(parents=True)
    for name, content in idx_files().items():
        (tmp_path / RAW / name).write_bytes(content)
    return tmp_path


def numbers(split: Images) -> list[int]:
    return split.pixels_NCHW[:, 0, 0, 0].tolist()


def test_idx_files_become_a_set(small: Path) -> None:
    found = load_in(small, FashionMnistConfig(val_images=5))
    assert [split.name for split in (found.train, found.val, found.test)] == ["train", "val", "test"]
    assert [len(split) for split in (found.train, found.val, found.test)] == [15, 5, TEST]
    assert found.test.pixels_NCHW.shape == (TEST, 1, 28, 28)
    assert found.test.pixels_NCHW.dtype == torch.uint8
    assert numbers(found.test) == found.test.labels_N.tolist() == list(range(TEST))
    for split in (found.train, found.val):
        assert split.labels_N.tolist() == [number % 10 for number in numbers(split)]  # no picture lost its label
    assert found.checksums == {f"{RAW}/{name}": hashlib.sha256(raw).hexdigest() for name, raw in idx_files().items()}
    assert found.notes == [f"{RAW}/{name}: not the published file" for name in FASHION_MNIST_SHA256]


def test_the_classes_are_named_as_those_of_the_garments(small: Path) -> None:
    assert load_in(small, FashionMnistConfig(val_images=5)).classes == list(synthetic_garments.CLASSES)


def test_validation_is_split_off_by_its_own_seed(small: Path) -> None:
    config = FashionMnistConfig(val_images=5)
    one, again = load_in(small, config), load_in(small, config)
    assert numbers(one.val) == numbers(again.val)
    assert sorted(numbers(one.train) + numbers(one.val)) == list(range(TRAIN))
    assert numbers(one.val) == sorted(np.random.default_rng(0).permutation(TRAIN)[:5])
    assert numbers(one.train) == sorted(numbers(one.train))
    assert numbers(load_in(small, replace(config, split_seed=1)).val) != numbers(one.val)


def test_less_to_train_on_leaves_validation_as_it_is(small: Path) -> None:
    whole, some, fewer = (load_in(small, FashionMnistConfig(val_images=5, train_images=count)) for count in (15, 8, 4))
    assert numbers(whole.train) == numbers(load_in(small, FashionMnistConfig(val_images=5)).train)
    assert numbers(whole.val) == numbers(some.val) == numbers(fewer.val)
    assert numbers(some.train) == sorted(np.random.default_rng(0).permutation(TRAIN)[5:13])
    assert set(numbers(fewer.train)) < set(numbers(some.train)) < set(numbers(whole.train))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FashionMnistConfig(), "20 pictures; expected more than data.val_images=6,000"),
        (FashionMnistConfig(val_images=20), "20 pictures; expected more than data.val_images=20"),
        (
            FashionMnistConfig(val_images=5, train_images=16),
            "15 pictures beside data.val_images=5; expected at least data.train_images=16",
        ),
    ],
)
def test_more_pictures_asked_for_than_there_are(small: Path, config: FashionMnistConfig, message: str) -> None:
    assert refusal(small, config) == f"{small / RAW}: {message}"


WHOLE = idx_files()
PICTURES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


NO_FASHION_MNIST = {
    "cut": (PICTURES, WHOLE[PICTURES][:-1], "15,695 bytes; expected 15,696 by its header"),
    "cut header": (PICTURES, WHOLE[PICTURES][:9], "9 bytes; expected 16 by its header"),
    "too long": (LABELS, WHOLE[LABELS] + b"\0", "29 bytes; expected 28 by its header"),
    "empty": (LABELS, b"", "begins with nothing; expected 00000801, an unpacked idx file of bytes (1-d)"),
    "labels for pictures": (
        PICTURES,
        WHOLE[LABELS],
        "begins with 00000801; expected 00000803, an unpacked idx file of bytes (3-d)",
    ),
    "floats": (LABELS, b"\0\0\x0d\x01" + WHOLE[LABELS][4:], "begins with 00000d01; expected 00000801, "),
    "packed": (PICTURES, gzip.compress(WHOLE[PICTURES]), "begins with 1f8b08"),
    "another size": (PICTURES, idx(np.zeros((20, 30, 32))), "pictures of 30x32; expected 28x28"),
    "no pictures": ("t10k-images-idx3-ubyte", idx(pictures(0)), "holds nothing; expected at least one picture"),
    "label": (LABELS, idx([0, 9, 4, 10, 11] * 4), "label 10 at index 3; expected 0 to 9"),
    "number": (LABELS, idx(np.arange(9)), "9 labels; expected 20, as many as"),
}


@pytest.mark.parametrize(("name", "content", "message"), NO_FASHION_MNIST.values(), ids=NO_FASHION_MNIST)
def test_what_is_no_fashion_mnist(small: Path, name: str, content: bytes, message: str) -> None:
    (small / RAW / name).write_bytes(content)
    assert refusal(small, FashionMnistConfig(val_images=5)).startswith(f"{small / RAW / name}: {message}")


def test_a_file_that_cannot_be_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert f"{PICTURES}: Permission denied; expected" in refusal(small, FashionMnistConfig(val_images=5))


def test_what_an_old_torchvision_left_behind_is_not_read(small: Path) -> None:
    (small / "FashionMNIST" / "processed").mkdir()
    for name in ("training.pt", "test.pt"):
        old = torch.full((30, 28, 28), 200, dtype=torch.uint8), torch.zeros(30, dtype=torch.int64)
        torch.save(old, small / "FashionMNIST" / "processed" / name)
    assert numbers(load_in(small, FashionMnistConfig(val_images=5)).test) == list(range(TEST))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on this machine that torchvision fetches the small files from."""
    folder, resources = tmp_path / "home", []
    folder.mkdir()
    for name, content in idx_files().items():
        packed = gzip.compress(content)
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("there", [(), (PICTURES, LABELS)], ids=["nothing", "half"])
def test_what_is_not_there_is_fetched(home: Path, tmp_path: Path, there: tuple[str, ...]) -> None:
    raw = tmp_path / "data" / RAW
    raw.mkdir(parents=True)
    for name in there:
        (raw / name).write_bytes(idx_files()[name])
    before = {name: (raw / name).stat().st_ino for name in there}
    load_in(tmp_path / "data", FashionMnistConfig(val_images=5))
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == idx_files()  # and nothing beside them
    assert {name: (raw / name).stat().st_ino for name in there} == before


@pytest.mark.parametrize("fault", ["no server", "another", "broken"])
def test_what_cannot_be_fetched_is_one_clear_sentence(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    packed = home / f"{PICTURES}.gz"
    if fault == "no server":
        monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:1/"])
    elif fault == "another":
        packed.write_bytes(gzip.compress(b"another"))
    else:
        half = packed.read_bytes()[:-9]
        packed.write_bytes(half)
        FashionMNIST.resources[0] = (packed.name, hashlib.md5(half).hexdigest())
    message = refusal(tmp_path / "data", FashionMnistConfig(val_images=5))
    assert message.startswith(f"{tmp_path / 'data' / RAW}: not all of {', '.join(FASHION_MNIST_SHA256)}, and ")
    assert message.endswith(
        "expected these four files there: fetch them by hand, or set paths.data (ATTNBENCH_DATA) to where "
        "FashionMNIST/raw lies"
    )
    assert not list((tmp_path / "data" / RAW).iterdir())


def test_a_data_folder_that_cannot_be_made_is_one_clear_sentence(home: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    assert "Not a directory" in refusal(tmp_path / "data", FashionMnistConfig(val_images=5))


def test_the_published_set(real_data: Path) -> None:
    found = load_in(real_data, FashionMnistConfig())
    assert [len(split) for split in (found.train, found.val, found.test)] == [54000, 6000, 10000]
    assert found.test.labels_N.bincount().tolist() == [1000] * 10
    assert (found.train.labels_N.bincount() + found.val.labels_N.bincount()).tolist() == [6000] * 10
    assert found.notes == []
    assert found.checksums == {f"{RAW}/{name}": sha256 for name, sha256 in FASHION_MNIST_SHA256.items()}
    theirs = FashionMNIST(real_data, train=False)
    assert torch.equal(found.test.pixels_NCHW[:, 0], theirs.data)
    assert torch.equal(found.test.labels_N, theirs.targets)


def test_a_changed_file_gets_its_note(real_data: Path, tmp_path: Path) -> None:
    (tmp_path / RAW).mkdir(parents=True)
    for name in FASHION_MNIST_SHA256:
        (tmp_path / RAW / name).symlink_to(real_data / RAW / name)
    changed = bytearray((real_data / RAW / "t10k-labels-idx1-ubyte").read_bytes())
    changed[8] = (changed[8] + 1) % 10
    (tmp_path / RAW / "t10k-labels-idx1-ubyte").unlink()
    (tmp_path / RAW / "t10k-labels-idx1-ubyte").write_bytes(changed)
    found = load_in(tmp_path, FashionMnistConfig())
    assert found.notes == [f"{RAW}/t10k-labels-idx1-ubyte: not the published file"]


# ---- a folder of one's own

Color = tuple[int, int, int]
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def paint(path: Path, color: Color = RED, size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three splits of two classes; b is blue and a is not."""
    for split in ("train", "val", "test"):
        paint(tmp_path / split / "b" / "1.png", BLUE)
        paint(tmp_path / split / "a" / "2.png", GREEN)
        paint(tmp_path / split / "a" / "1.png", RED)
    paint(tmp_path / "train" / "a" / "deeper" / "1.bmp", WHITE)
    return tmp_path


def own(folder: Path, channels: Channels = Channels.rgb, size: int = 4, val_images: int = 1) -> ImageFolderConfig:
    return ImageFolderConfig(folder=str(folder), channels=channels, image_size=size, val_images=val_images)


def colors(split: Images) -> list[tuple[int, ...]]:
    return [tuple(color) for color in split.pixels_NCHW[:, :, 0, 0].tolist()]


def test_a_folder_becomes_a_set(folder: Path) -> None:
    found = load_in(folder, own(folder))
    assert (found.classes, found.notes) == (["a", "b"], [])
    assert colors(found.train) == [RED, GREEN, WHITE, BLUE]
    assert found.train.labels_N.tolist() == [0, 0, 0, 1]
    assert (colors(found.val), colors(found.test)) == ([RED, GREEN, BLUE],) * 2
    assert found.val.pixels_NCHW.shape == (3, 3, 4, 4)
    assert [split.name for split in (found.train, found.val, found.test)] == ["train", "val", "test"]


def test_the_checksum_of_a_folder_is_of_names_and_contents(folder: Path) -> None:
    (before,) = load_in(folder, own(folder)).checksums.items()
    command = "find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    said = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert before == (str(folder), said.split()[0])
    (folder / "val" / "b" / "1.png").rename(folder / "val" / "b" / "9.png")
    assert load_in(folder, own(folder)).checksums != dict([before])


def test_hidden_files_and_folders_are_none_of_the_pictures(folder: Path) -> None:
    plain = load_in(folder, own(folder))
    (folder / "train" / "a" / ".DS_Store").write_bytes(b"\0")
    paint(folder / "train" / ".thumbnails" / "1.png")
    paint(folder / "train" / "a" / ".thumbnails" / "1.png")
    again = load_in(folder, own(folder))
    assert (again.classes, colors(again.train)) == (plain.classes, colors(plain.train))
    assert again.checksums == plain.checksums


def remove(folder: Path, keep: bool = False) -> None:
    """Remove all that is in a folder, and if it is not to be kept, the folder."""
    shutil.rmtree(folder)
    if keep:
        folder.mkdir()


def test_without_a_validation_folder_it_is_split_off(folder: Path) -> None:
    remove(folder / "val")
    found = load_in(folder, own(folder, val_images=3))
    assert (len(found.train), len(found.val), found.val.name) == (1, 3, "val")
    assert {*colors(found.train), *colors(found.val)} == {RED, GREEN, WHITE, BLUE}
    assert found.notes == []
    assert refusal(folder, own(folder, val_images=4)) == (
        f"{folder}/train: 4 pictures; expected more than data.val_images=4"
    )


@pytest.mark.parametrize("val", [True, False])
def test_without_a_test_folder_validation_stands_in_and_is_named(folder: Path, val: bool) -> None:
    remove(folder / "test")
    if not val:
        remove(folder / "val")
    found = load_in(folder, own(folder))
    assert found.notes == ["test: the validation pictures"]
    assert found.test.name == "test"
    assert torch.equal(found.test.pixels_NCHW, found.val.pixels_NCHW)
    assert torch.equal(found.test.labels_N, found.val.labels_N)
    assert len(found.test) == (3 if val else 1)


def test_a_split_may_lack_a_class(folder: Path) -> None:
    remove(folder / "val" / "a")
    assert load_in(folder, own(folder)).val.labels_N.tolist() == [1]


def test_gray(folder: Path) -> None:
    found = load_in(folder, own(folder, Channels.gray))
    assert found.train.pixels_NCHW.shape == (4, 1, 4, 4)
    assert colors(found.train) == [(76,), (150,), (255,), (29,)]  # 0.299 R + 0.587 G + 0.114 B: ITU-R 601-2


def test_gray_pictures_read_as_rgb(folder: Path) -> None:
    Image.new("L", (4, 4), 7).save(folder / "train" / "b" / "1.png")
    assert colors(load_in(folder, own(folder)).train)[-1] == (7, 7, 7)


def test_resized_by_means_of_all_the_pixels(folder: Path) -> None:
    stripes = np.zeros((64, 32), dtype=np.uint8)
    stripes[:, ::2] = 200  # without antialiasing, every pixel were 0, 200 or one fixed mean
    stripes[32:] = 50
    Image.fromarray(stripes).save(folder / "test" / "b" / "1.png")
    found = load_in(folder, own(folder, Channels.gray, size=8))
    assert found.train.pixels_NCHW.shape == (4, 1, 8, 8)
    last = found.test.pixels_NCHW[-1, 0].int()
    assert (last[:3, 1:-1] - 100).abs().max() <= 3
    assert (last[-3:] - 50).abs().max() == 0


def cut(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-1000])


def levels(path: Path, values: list[float], dtype: type = np.float32) -> None:
    Image.fromarray(np.array([values], dtype=dtype)).save(path, format="TIFF")


NO_FOLDER_OF_PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (remove, ": no such folder; expected data.folder to be one with train/<class>/ in it"),
    "no train": (
        lambda folder: remove(folder / "train"),
        "/train: no such folder; expected a folder with pictures in it for each class",
    ),
    "no classes": (
        lambda folder: remove(folder / "train", keep=True),
        "/train: no folders in it; expected one with pictures for each class",
    ),
    "no classes in val": (
        lambda folder: remove(folder / "val", keep=True),
        "/val: no folders in it; expected one with pictures for each class",
    ),
    "empty class": (lambda folder: (folder / "train" / "c").mkdir(), "/train/c: no pictures; expected at least one"),
    "empty class in test": (
        lambda folder: (folder / "test" / "b" / "1.png").unlink(),
        "/test/b: no pictures; expected at least one",
    ),
    "class that train lacks": (
        lambda folder: paint(folder / "val" / "c" / "1.png"),
        "/val/c: no such class in training; expected one of {folder}/train",
    ),
    "text in a picture's name": (
        lambda folder: (folder / "train" / "a" / "1.png").write_text("a text"),
        "/train/a/1.png: no picture; expected a file that Pillow can read, such as PNG or JPEG",
    ),
    "text": (lambda folder: (folder / "test" / "a" / "list.txt").touch(), "/test/a/list.txt: no picture; expected "),
    "dead link": (
        lambda folder: (folder / "val" / "a" / "3.png").symlink_to("gone.png"),
        "/val/a/3.png: No such file or directory; expected a picture",
    ),
    "cut": (lambda folder: cut(folder / "train" / "a" / "1.png"), "/train/a/1.png: a broken picture ("),
    "far too large": (
        lambda folder: (folder / "train" / "a" / "1.png").write_bytes(b"P6 60000 60000 255\n"),
        "/train/a/1.png: a broken picture (Image size (3600000000 pixels)",
    ),
    "nan": (
        lambda folder: levels(folder / "train" / "a" / "1.tif", [1, np.nan]),
        "/train/a/1.tif: holds NaN or infinity; expected levels from 0 to 255",
    ),
    "infinity": (
        lambda folder: levels(folder / "val" / "a" / "1.tif", [1, -np.inf]),
        "/val/a/1.tif: holds NaN or infinity; expected levels from 0 to 255",
    ),
    "fractions": (
        lambda folder: levels(folder / "train" / "a" / "1.tif", [0, 0.5]),
        "/train/a/1.tif: levels from 0 to 0.5; expected 0 (black) to 255 (white)",
    ),
    "below black": (
        lambda folder: levels(folder / "train" / "a" / "1.tif", [-0.5, 20]),
        "/train/a/1.tif: levels from -0.5 to 20; expected 0 (black) to 255 (white)",
    ),
    "16 bits": (
        lambda folder: levels(folder / "train" / "a" / "1.tif", [3, 40000], np.uint16),
        "/train/a/1.tif: levels from 3 to 40000; expected 0 (black) to 255 (white)",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), NO_FOLDER_OF_PICTURES.values(), ids=NO_FOLDER_OF_PICTURES)
def test_what_is_no_folder_of_pictures(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    folder = tmp_path / "set"
    for split in ("train", "val", "test"):
        paint(folder / split / "a" / "1.png")
        paint(folder / split / "b" / "1.png")
    spoil(folder)
    assert refusal(folder, own(folder)).startswith(f"{folder}{message.format(folder=folder)}")


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_levels_that_eight_bits_hold_are_read_however_they_are_stored(folder: Path, dtype: type) -> None:
    levels(folder / "train" / "b" / "1.png", [200.0] * 4, dtype)
    assert colors(load_in(folder, own(folder, Channels.gray)).train)[-1] == (200,)


# ---- drawn garments


@pytest.fixture
def garments() -> SyntheticGarmentsConfig:
    return SyntheticGarmentsConfig(train_images=30, val_images=10, test_images=20)


def test_garments_are_drawn_a_generator_a_split(garments: SyntheticGarmentsConfig, tmp_path: Path) -> None:
    found = load_in(tmp_path, garments)
    assert found.classes == list(synthetic_garments.CLASSES)
    for number, (split, count) in enumerate(((found.train, 30), (found.val, 10), (found.test, 20))):
        pixels_NHW, labels_N = synthetic_garments.draw_garments(count, np.random.default_rng((0, number)))
        assert torch.equal(split.pixels_NCHW, torch.from_numpy(pixels_NHW)[:, None])
        assert torch.equal(split.labels_N, torch.from_numpy(labels_N))
    assert found.notes == []


def test_garments_are_the_same_for_a_seed_and_others_for_another(
    garments: SyntheticGarmentsConfig, tmp_path: Path
) -> None:
    one, again, other = (load_in(tmp_path, replace(garments, drawing_seed=seed)) for seed in (0, 0, 1))
    assert one.checksums == again.checksums != other.checksums
    assert list(one.checksums) == ["synthetic"]


@pytest.mark.parametrize(
    ("pixels_NHW", "labels_N", "message"),
    [
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.int64), "train: pictures are torch.float32 of (2, 1, 28,"),
        (np.zeros((2, 28), np.uint8), np.zeros(2, np.int64), "train: pictures are torch.uint8 of (2, 1, 28)"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(2, np.int32), "train: labels are torch.int32 of (2,); expected"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.int64), "train: labels are torch.int64 of (3,); expected"),
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.int64), "train: no pictures; expected at least one"),
        (np.zeros((2, 28, 28), np.uint8), np.array([0, -1]), "train: label -1 at index 1; expected 0 to 9"),
    ],
)
def test_every_set_is_checked(
    garments: SyntheticGarmentsConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pixels_NHW: npt.NDArray[np.generic],
    labels_N: npt.NDArray[np.generic],
    message: str,
) -> None:
    monkeypatch.setattr(synthetic_garments, "draw_garments", lambda count, random: (pixels_NHW, labels_N))
    assert refusal(tmp_path, garments).startswith(message)


def test_select_keeps_pictures_and_labels_together(small: Path) -> None:
    some = load_in(small, FashionMnistConfig(val_images=5)).test.select(torch.tensor([4, 1]))
    assert (some.name, numbers(some), some.labels_N.tolist()) == ("test", [4, 1], [4, 1])


def test_every_kind_of_config_has_its_loader() -> None:
    assert set(images._LOADERS) == set(ImagesConfig.__subclasses__())


# ---- pixels as a viewer shows them


def draw(path: Path, mode: str, shape: str, **options: Any) -> None:
    """Black lines on a transparent ground: `shape` is a column or a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    for i in range(4):
        layers.putpixel((1, i) if shape == "column" else (i, 1), (0, 0, 0, 255))
    if mode == "P":  # a palette with a transparent color
        layers = Image.new("P", (4, 4), 0)
        layers.putpalette([0, 0, 0, 0, 0, 0])
        for i in range(4):
            layers.putpixel((1, i) if shape == "column" else (i, 1), 1)
        options["transparency"] = 0
        layers.save(path, **options)
    else:
        layers.convert(mode).save(path, **options)


@pytest.mark.parametrize("channels", Channels)
@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", "png"), ("LA", "png"), ("P", "png"), ("P", "gif"), ("RGBA", "webp")]
)
def test_transparent_pictures_are_laid_on_white(tmp_path: Path, channels: Channels, mode: str, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    for split in ("train", "val", "test"):
        for shape in ("column", "row"):
            draw(tmp_path / split / shape / f"1.{suffix}", mode, shape, **options)
    found = load_in(tmp_path, own(tmp_path, channels))
    expected_CHW = torch.full((2, 4, 4), 255)
    expected_CHW[0, :, 1] = 0
    expected_CHW[1, 1, :] = 0
    assert found.train.pixels_NCHW[:, 0].tolist() == expected_CHW.tolist()
    assert found.notes[0] == "train: 2 of 2 pictures are transparent in places: laid on white"


def test_an_alpha_channel_without_transparency_changes_nothing(folder: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 255)).save(folder / "train" / "a" / "1.png")
    found = load_in(folder, own(folder))
    assert colors(found.train)[0] == RED
    assert found.notes == []


def test_half_transparent_pixels_are_mixed_with_white(folder: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(folder / "train" / "a" / "1.png")
    assert colors(load_in(folder, own(folder)).train)[0] == (204, 204, 204)


def test_white_on_transparent_is_noted(folder: Path) -> None:
    layers = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    layers.putpixel((1, 1), (255, 255, 255, 255))
    layers.save(folder / "val" / "a" / "1.png")
    assert load_in(folder, own(folder)).notes == [
        "val: 1 of 3 pictures are transparent in places: laid on white",
        "val: 1 of 3 pictures are drawn in white on a transparent ground: nothing is left of them on white",
    ]


# Where the red corner of a picture stored upright, red at its top left, is shown: (row, column).
SHOWN = {1: (0, 0), 2: (0, 3), 3: (3, 3), 4: (3, 0), 5: (0, 0), 6: (0, 3), 7: (3, 3), 8: (3, 0)}


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_pictures_are_turned_as_their_orientation_says(folder: Path, orientation: int, suffix: str) -> None:
    picture = Image.new("RGB", (4, 4), WHITE)
    picture.putpixel((0, 0), RED)
    exif = picture.getexif()
    exif[0x0112] = orientation
    path = folder / "train" / "a" / f"0.{suffix}"
    picture.save(path, exif=exif)
    pixels_CHW = load_in(folder, own(folder)).train.pixels_NCHW[0]
    assert (pixels_CHW[1] == 0).nonzero().tolist() == [list(SHOWN[orientation])]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "RGB"])
def test_every_kind_of_opaque_picture_is_read(folder: Path, mode: str) -> None:
    suffix = {"CMYK": "tif", "YCbCr": "jpg"}.get(mode, "png")
    Image.new("RGB", (4, 4), WHITE).convert(mode).save(folder / "train" / "a" / f"0.{suffix}")
    found = load_in(folder, own(folder))
    assert min(colors(found.train)[0]) >= 254
    assert found.notes == []


def test_colors_of_16_bits_are_read_by_their_upper_bits(folder: Path) -> None:
    """A PNG of one pixel with 16 bits a channel, written by hand since Pillow writes none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">HHH", 0xC8FF, 0x0001, 0xFFFF)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    (folder / "train" / "a" / "0.png").write_bytes(content)
    assert colors(load_in(folder, own(folder)).train)[0] == (0xC8, 0, 255)


def test_frames_after_the_first_are_noted(folder: Path) -> None:
    first, second = (Image.new("RGB", (4, 4), color) for color in (RED, BLUE))
    first.save(folder / "train" / "a" / "0.gif", save_all=True, append_images=[second])
    first.save(folder / "train" / "a" / "0.tif", save_all=True, append_images=[second])
    found = load_in(folder, own(folder))
    assert colors(found.train)[:2] == [RED, RED]
    assert found.notes == ["train: 2 of 6 pictures have several frames or pages: the first one is read"]


def test_levels_of_more_bits_are_noted(folder: Path) -> None:
    levels(folder / "train" / "b" / "1.png", [200.0] * 4, np.uint16)
    assert load_in(folder, own(folder, Channels.gray)).notes == [
        "train: 1 of 4 pictures hold levels of more than eight bits, none above 255: 255 is read as white, where a"
        " viewer may show black"
    ]


# ---- names that look the same, and too few classes

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("other", "described"),
    [
        (DECOMPOSED, r"'cafe\u0301' (NFD)"),
        (COMPOSED + "\u200b", r"'caf\xe9\u200b' (NFC, U+200B)"),
        (COMPOSED + " ", r"'caf\xe9 ' (NFC)"),
    ],
)
def test_class_names_that_look_the_same_are_told_apart(tmp_path: Path, other: str, described: str) -> None:
    for split in ("train", "val"):
        paint(tmp_path / split / "dog" / "1.png", BLUE)
        paint(tmp_path / split / (COMPOSED if split == "train" else other) / "1.png")
    assert refusal(tmp_path, own(tmp_path)) == (
        rf"{tmp_path}/val: {described} and 'caf\xe9' (NFC) look the same and differ in their Unicode characters only;"
        " expected the name that the class has in training"
    )
    paint(tmp_path / "train" / other / "2.png")
    assert "look the same" in refusal(tmp_path, own(tmp_path))


def test_a_class_name_of_two_lines_is_refused(folder: Path) -> None:
    paint(folder / "train" / "a\nb" / "1.png")
    assert (
        refusal(folder, own(folder))
        == f"{folder}/train: 'a\\nb': a line end in a class name; expected a name of one line"
    )


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    for split in ("train", "val"):
        paint(tmp_path / split / "a" / "1.png")
    assert refusal(tmp_path, own(tmp_path)) == "train: one class only (a); expected at least two to tell apart"
