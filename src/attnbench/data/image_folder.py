"""The user's own pictures: folders of classes found and checked, every picture decoded into memory.

Legend: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import make_dataset
from tqdm import tqdm

from attnbench.config.images import Channels
from attnbench.data.errors import DataError

_MODES = {Channels.grey: "L", Channels.rgb: "RGB"}  # Pillow's names


class Pictures(NamedTuple):
    """A folder's pictures, in the order of their classes and names."""

    pixels_NCHW: Tensor  # uint8, C 1 or 3
    labels_N: Tensor  # int64
    sha256: dict[str, str]  # by path below the set's folder, with slashes


def class_names(folder: Path) -> list[str]:
    """The names of the classes in <folder>/<class>, sorted; hidden folders are none.

    Raises:
        DataError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a folder with pictures in it for each class")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: no folders in it; expected one with pictures for each class")
    return names


def read(folder: Path, classes: list[str], channels: Channels, size: int) -> Pictures:
    """Decode every file below <folder>/<class>, resized to `size` x `size`; hidden files are none.

    Args:
        folder: of a split.
        classes: of the training set; a split may lack some.
        channels: what a picture is read as.
        size: the side in pixels.

    Raises:
        DataError: no folders, a class that is not in `classes`, one without pictures, or a file that is no picture,
            a broken one, or one whose levels eight bits do not hold.
    """
    found = class_names(folder)
    for name in found:
        if name not in classes:
            raise DataError(f"{folder / name}: no such class in training; expected one of {folder.parent / 'train'}")
    samples = make_dataset(
        folder,
        {name: classes.index(name) for name in found},
        is_valid_file=lambda path: not any(part.startswith(".") for part in Path(path).relative_to(folder).parts),
        allow_empty=True,
    )
    labels_N = torch.tensor([label for _, label in samples], dtype=torch.int64)
    filled = {classes[label] for label in labels_N.tolist()}
    for name in found:
        if name not in filled:
            raise DataError(f"{folder / name}: no pictures; expected at least one")
    mode, sha256 = _MODES[channels], {}
    pixels_NCHW = torch.empty(len(samples), len(mode), size, size, dtype=torch.uint8)
    for row, (path, _) in enumerate(tqdm(samples, desc=f"reading {folder.name}", leave=False)):
        content = _content(path)
        # Pillow's bilinear filter grows with the reduction: it is antialiased.
        picture = _decoded(path, content, mode).resize((size, size), Image.Resampling.BILINEAR)
        pixels_NCHW[row] = torch.from_numpy(np.array(picture)).reshape(size, size, len(mode)).permute(2, 0, 1)
        sha256[Path(path).relative_to(folder.parent).as_posix()] = hashlib.sha256(content).hexdigest()
    return Pictures(pixels_NCHW, labels_N, sha256)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a picture") from error


def _decoded(path: str, content: bytes, mode: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content))
        converted = picture.convert(mode)
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: no picture; expected a file that Pillow can read, such as PNG or JPEG") from error
    except Exception as error:  # what a decoder stumbles over is an OSError, a SyntaxError, a ValueError, ...
        said = " ".join(str(error).split())
        raise DataError(f"{path}: a broken picture ({said}); expected one that can be decoded") from error
    if picture.mode.startswith(("F", "I")):
        _check_levels(path, np.asarray(picture))
    return converted


def _check_levels(path: str, levels_HW: np.ndarray) -> None:
    """Refuse numbers of more than eight bits that Pillow would clip to 0..255, or cut off behind the point."""
    if not np.isfinite(levels_HW).all():
        raise DataError(f"{path}: holds NaN or infinity; expected levels from 0 to 255")
    low, high = levels_HW.min(), levels_HW.max()
    fractions = levels_HW.dtype.kind == "f" and 0 < high <= 1
    if low < 0 or high > 255 or fractions:
        raise DataError(f"{path}: levels from {low:g} to {high:g}; expected 0 (black) to 255 (white)")
