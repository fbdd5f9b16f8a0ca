"""Loads labeled images: Fashion-MNIST, the user's own folders, or synthetic garments.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.mnist import FashionMNIST, read_image_file, read_label_file

from attnbench.config.images import FashionMnistConfig, ImageFolderConfig, ImagesConfig, SyntheticGarmentsConfig
from attnbench.config.tracking import PathsConfig
from attnbench.data import image_folder, synthetic_garments
from attnbench.data.checksums import compute_digest
from attnbench.data.errors import DataError

_SPLITS = ("train", "val", "test")

_FASHION_MNIST = "FashionMNIST/raw"  # below paths.data, where torchvision looks for it
# SHA-256 of the unpacked files.
FASHION_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


@dataclass(frozen=True)
class Images:
    """Images of one split in memory, neither normalized nor augmented."""

    name: str  # "train", "val" or "test"
    pixels_NCHW: Tensor  # uint8
    labels_N: Tensor  # int64

    def __len__(self) -> int:
        return len(self.labels_N)

    def select(self, rows_N: Tensor) -> Images:
        """Return only these images, in this order."""
        return Images(self.name, self.pixels_NCHW[rows_N], self.labels_N[rows_N])


@dataclass(frozen=True)
class ImageSet:
    """Train, validation and test images, with class names, checksums and notes."""

    train: Images
    val: Images
    test: Images
    classes: list[str]  # labels are their indices
    checksums: dict[str, str]  # SHA-256 by file; one for a whole folder
    notes: list[str]  # notes for the record, such as a missing test set


def load_image_set(config: ImagesConfig, paths: PathsConfig) -> ImageSet:
    """Load the image set that a config names.

    Published and synthetic images keep their size; the user's own are resized to `image_size`.

    Args:
        config: data config.
        paths: folders of data and caches.

    Raises:
        DataError: if the set is missing and cannot be downloaded, or has unexpected content.
    """
    return _validate_image_set(_LOADERS[type(config)](config, paths))


def _validate_image_set(images: ImageSet) -> ImageSet:
    """Check what every loader must guarantee: equal sizes, labels in range, no empty split."""
    shape_CHW = images.train.pixels_NCHW.shape[1:]
    for split in (images.train, images.val, images.test):
        pixels_NCHW, labels_N = split.pixels_NCHW, split.labels_N
        if pixels_NCHW.dtype != torch.uint8 or pixels_NCHW.ndim != 4 or pixels_NCHW.shape[1:] != shape_CHW:
            found = f"{pixels_NCHW.dtype} of {tuple(pixels_NCHW.shape)}"
            raise DataError(f"{split.name}: pictures are {found}; expected uint8 of (N, C, H, W), as in training")
        if labels_N.dtype != torch.int64 or labels_N.shape != pixels_NCHW.shape[:1]:
            found = f"{labels_N.dtype} of {tuple(labels_N.shape)}"
            raise DataError(f"{split.name}: labels are {found}; expected int64 of ({len(pixels_NCHW)},)")
        if not len(split):
            raise DataError(f"{split.name}: no pictures; expected at least one")
        _check_labels(labels_N, len(images.classes), split.name)
    if len(images.classes) < 2:
        raise DataError(f"train: one class only ({images.classes[0]}); expected at least two to tell apart")
    return images


def _check_labels(labels_N: Tensor, classes: int, location: str) -> None:
    bad = ((labels_N < 0) | (labels_N >= classes)).nonzero()
    if len(bad):
        index = int(bad[0])
        raise DataError(f"{location}: label {int(labels_N[index])} at index {index}; expected 0 to {classes - 1}")


def _split_train_val(
    whole: Images, config: ImagesConfig, where: str, train_images: int | None = None
) -> tuple[Images, Images]:
    """Split training and validation images with `split_seed`; each part keeps the order of the whole."""
    most = len(whole) - config.val_images
    if most < 1:
        raise DataError(f"{where}: {len(whole):,} pictures; expected more than data.val_images={config.val_images:,}")
    if train_images is not None and train_images > most:
        raise DataError(
            f"{where}: {most:,} pictures beside data.val_images={config.val_images:,}; expected at least "
            f"data.train_images={train_images:,}"
        )
    drawn_N = np.random.default_rng(config.split_seed).permutation(len(whole))
    val_N, rest_N = drawn_N[: config.val_images], drawn_N[config.val_images :][:train_images]
    train, val = (whole.select(torch.from_numpy(np.sort(rows_N))) for rows_N in (rest_N, val_N))
    return train, replace(val, name="val")


def _load_fashion_mnist(config: FashionMnistConfig, paths: PathsConfig) -> ImageSet:
    raw = Path(paths.data) / _FASHION_MNIST
    if not all((raw / name).is_file() for name in FASHION_MNIST_SHA256):
        _download_fashion_mnist(raw)
    sha256 = {name: _check_idx_file(raw / name) for name in FASHION_MNIST_SHA256}

    def split(name: str, stem: str) -> Images:
        pictures, labels = raw / f"{stem}-images-idx3-ubyte", raw / f"{stem}-labels-idx1-ubyte"
        # Not FashionMNIST(root), which would read FashionMNIST/processed of an old torchvision if it exists.
        pixels_NCHW, labels_N = read_image_file(str(pictures)).unsqueeze(1), read_label_file(str(labels))
        if len(labels_N) != len(pixels_NCHW):
            raise DataError(
                f"{labels}: {len(labels_N):,} labels; expected {len(pixels_NCHW):,}, as many as {pictures} has pictures"
            )
        _check_labels(labels_N, len(FashionMNIST.classes), str(labels))
        return Images(name, pixels_NCHW, labels_N)

    train, val = _split_train_val(split("train", "train"), config, str(raw), config.train_images)
    return ImageSet(
        train,
        val,
        split("test", "t10k"),
        classes=[name.lower().removesuffix("/top") for name in FashionMNIST.classes],
        checksums={f"{_FASHION_MNIST}/{name}": digest for name, digest in sha256.items()},
        notes=[
            f"{_FASHION_MNIST}/{name}: not the published file"
            for name, digest in sha256.items()
            if digest != FASHION_MNIST_SHA256[name]
        ],
    )


def _download_fashion_mnist(raw: Path) -> None:
    """Download missing files to a temporary name first, so that other processes only see complete files."""
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=raw) as part:
            FashionMNIST(part, download=True)
            for name in FASHION_MNIST_SHA256:
                if not (raw / name).is_file():
                    os.replace(Path(part) / _FASHION_MNIST / name, raw / name)
    except (OSError, EOFError, ValueError, RuntimeError, HTTPException, zlib.error) as error:
        raise DataError(
            f"{raw}: not all of {', '.join(FASHION_MNIST_SHA256)}, and torchvision could not fetch them "
            f"({' '.join(str(error).split())}); expected these four files there: fetch them by hand, or set paths.data "
            f"(ATTNBENCH_DATA) to where {_FASHION_MNIST} lies"
        ) from error


def _check_idx_file(path: Path) -> str:
    """Return the SHA-256 of an idx file after checking that its header matches 28x28 bytes.

    It torchvision does not check.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a file of Fashion-MNIST") from error
    axes = 3 if "idx3" in path.name else 1
    magic, start = bytes((0, 0, 8, axes)), 4 + 4 * axes
    if content[:4] != magic:
        found = content[:4].hex() or "nothing"
        expected = f"{magic.hex()}, an unpacked idx file of bytes ({axes}-d)"
        raise DataError(f"{path}: begins with {found}; expected {expected}")
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) != start + math.prod(sizes):
        raise DataError(f"{path}: {len(content):,} bytes; expected {start + math.prod(sizes):,} by its header")
    if not sizes[0]:
        raise DataError(f"{path}: holds nothing; expected at least one picture")
    if axes == 3 and sizes[1:] != [28, 28]:
        raise DataError(f"{path}: pictures of {sizes[1]}x{sizes[2]}; expected 28x28")
    return hashlib.sha256(content).hexdigest()


def _load_synthetic_garments(config: SyntheticGarmentsConfig, paths: PathsConfig) -> ImageSet:
    counts, digest = (config.train_images, config.val_images, config.test_images), hashlib.sha256()

    def split(number: int) -> Images:
        random = np.random.default_rng((config.drawing_seed, number))
        pixels_NHW, labels_N = synthetic_garments.draw_garments(counts[number], random)
        digest.update(pixels_NHW.tobytes() + labels_N.tobytes())
        return Images(_SPLITS[number], torch.from_numpy(pixels_NHW).unsqueeze(1), torch.from_numpy(labels_N))

    train, val, test = map(split, range(len(_SPLITS)))
    checksums = {"synthetic": digest.hexdigest()}
    return ImageSet(train, val, test, classes=list(synthetic_garments.CLASSES), checksums=checksums, notes=[])


def _load_image_folder(config: ImageFolderConfig, paths: PathsConfig) -> ImageSet:
    folder, sha256 = Path(config.folder), dict[str, str]()
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected data.folder to be one with train/<class>/ in it")
    classes, notes = image_folder.list_class_names(folder / "train"), list[str]()

    def split(name: str) -> Images:
        pictures = image_folder.read_folder(folder / name, classes, config.channels, config.image_size)
        sha256.update(pictures.sha256)
        notes.extend(pictures.notes)
        return Images(name, pictures.pixels_NCHW, pictures.labels_N)

    train = split("train")
    if (folder / "val").is_dir():
        val = split("val")
    else:
        train, val = _split_train_val(train, config, str(folder / "train"))
    has_test = (folder / "test").is_dir()
    test = split("test") if has_test else replace(val, name="test")
    return ImageSet(
        train,
        val,
        test,
        classes=classes,
        checksums={config.folder: compute_digest(sha256)},
        notes=[*notes, *([] if has_test else ["test: the validation pictures"])],
    )


_LOADERS: dict[type, Callable[[Any, PathsConfig], ImageSet]] = {
    FashionMnistConfig: _load_fashion_mnist,
    SyntheticGarmentsConfig: _load_synthetic_garments,
    ImageFolderConfig: _load_image_folder,
}
