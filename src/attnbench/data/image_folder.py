"""The user's own images: finds and checks class folders, and decodes every image into memory.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import make_dataset
from tqdm import tqdm

from attnbench.config.images import Channels
from attnbench.data.errors import DataError
from attnbench.data.text_files import is_blank

_MODES = {Channels.gray: "L", Channels.rgb: "RGB"}  # Pillow's names
_TRANSPARENT = "are transparent in places: laid on white"
_WHITE_ON_WHITE = "are drawn in white on a transparent ground: nothing is left of them on white"
_FRAMES = "have several frames or pages: the first one is read"
_MORE_THAN_8_BITS = (
    "hold levels of more than eight bits, none above 255: 255 is read as white, where a viewer may show black"
)
_CHANGES = (_TRANSPARENT, _WHITE_ON_WHITE, _FRAMES, _MORE_THAN_8_BITS)


class FolderImages(NamedTuple):
    """Images of a folder, in the order of their classes and names."""

    pixels_NCHW: Tensor  # uint8, C 1 or 3
    labels_N: Tensor  # int64
    sha256: dict[str, str]  # by path below the set's folder, with slashes
    notes: list[str]  # how pixels differ from those in the files


def list_class_names(folder: Path) -> list[str]:
    """Return the sorted names of the classes in <folder>/<class>, without hidden folders.

    Raises:
        DataError: if there is no such folder, or no class in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected a folder with pictures in it for each class")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: no folders in it; expected one with pictures for each class")
    seen: dict[str, str] = {}
    for name in names:
        if any(char in name for char in "\n\r\0"):
            raise DataError(f"{folder}: {name!r}: a line end in a class name; expected a name of one line")
        twin = seen.setdefault(_normalize_name(name), name)
        if twin != name:
            raise DataError(f"{folder}: {_compare_names(name, twin)}; expected one folder for each class")
    return names


def _normalize_name(name: str) -> str:
    """Return a name as it is displayed: composed (NFC), without invisible characters and surrounding spaces."""
    visible = (char for char in name if char == " " or not is_blank(char))
    return unicodedata.normalize("NFC", "".join(visible)).strip()


def _compare_names(first: str, second: str) -> str:
    """Describe two different names that look the same."""
    described = []
    for name in (first, second):
        forms = [form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, name)]
        hidden = sorted({f"U+{ord(char):04X}" for char in name if char != " " and is_blank(char)})
        form = "/".join(forms) if len(forms) == 1 else "mixed" if not forms else ""
        described.append(f"{name!a} ({', '.join(filter(None, [form, *hidden])) or 'as it looks'})")
    return f"{' and '.join(described)} look the same and differ in their Unicode characters only"


def read_folder(folder: Path, classes: list[str], channels: Channels, image_size: int) -> FolderImages:
    """Decode every file below <folder>/<class> except hidden ones, resized to `image_size` x `image_size`.

    Args:
        folder: folder of a split.
        classes: classes of the training set; a split may lack some.
        channels: gray or RGB.
        image_size: side in pixels.

    Raises:
        DataError: if there are no folders, a class is not in `classes` or has no images, or a file is not an image,
            is damaged, or has levels that eight bits cannot hold.
    """
    found = list_class_names(folder)
    for name in found:
        if name not in classes:
            twin = next((known for known in classes if _normalize_name(known) == _normalize_name(name)), None)
            if twin is not None:
                found_names = _compare_names(name, twin)
                raise DataError(f"{folder}: {found_names}; expected the name that the class has in training")
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
    mode, sha256, changes = _MODES[channels], {}, Counter[str]()
    pixels_NCHW = torch.empty(len(samples), len(mode), image_size, image_size, dtype=torch.uint8)
    for row, (path, _) in enumerate(tqdm(samples, desc=f"reading {folder.name}", leave=False)):
        content = _read_bytes(path)
        # Pillow's bilinear filter grows with the reduction: it is antialiased.
        decoded, changed = _decode_image(path, content, mode)
        changes.update(changed)
        picture = decoded.resize((image_size, image_size), Image.Resampling.BILINEAR)
        pixels_NCHW[row] = (
            torch.from_numpy(np.array(picture)).reshape(image_size, image_size, len(mode)).permute(2, 0, 1)
        )
        sha256[Path(path).relative_to(folder.parent).as_posix()] = hashlib.sha256(content).hexdigest()
    total = len(samples)
    notes = [f"{folder.name}: {changes[name]:,} of {total:,} pictures {name}" for name in _CHANGES if changes[name]]
    return FolderImages(pixels_NCHW, labels_N, sha256, notes)


def _read_bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a picture") from error


def _decode_image(path: str, content: bytes, mode: str) -> tuple[Image.Image, list[str]]:
    """Decode an image as a viewer shows it, and list which of `_CHANGES` were needed.

    The image is rotated by its EXIF orientation and put on white where it is transparent; of several frames, the
    first is used.

    Raises:
        DataError: if the file is not an image, is damaged, or has levels that eight bits cannot hold.
    """
    changes = []
    try:
        opened = Image.open(io.BytesIO(content))
        if getattr(opened, "n_frames", 1) > 1:
            changes.append(_FRAMES)
            opened.seek(0)
        opened.load()
        picture = _apply_exif_orientation(opened)
        deep = picture.mode.startswith(("F", "I"))
        if not deep and picture.has_transparency_data:
            layers = picture.convert("RGBA")
            if layers.getchannel("A").getextrema() != (255, 255):
                changes.append(_TRANSPARENT)
                picture = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers)
                if not _is_blank(layers) and _is_blank(picture):
                    changes.append(_WHITE_ON_WHITE)
        converted = picture.convert(mode)
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: no picture; expected a file that Pillow can read, such as PNG or JPEG") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError and others
        message = " ".join(str(error).split())
        raise DataError(f"{path}: a broken picture ({message}); expected one that can be decoded") from error
    if deep:
        _check_levels(path, np.asarray(picture))
        changes.append(_MORE_THAN_8_BITS)
    return converted, changes


def _apply_exif_orientation(picture: Image.Image) -> Image.Image:
    """Rotate an image by its EXIF orientation; unreadable EXIF data is ignored, as viewers do."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # parsers of damaged blocks raise SyntaxError, struct.error, KeyError and others
        return picture


def _is_blank(picture: Image.Image) -> bool:
    """Return True if all pixels of an RGBA image are equal."""
    return all(low == high for low, high in picture.getextrema())  # type: ignore[misc]


def _check_levels(path: str, levels_HW: np.ndarray) -> None:
    """Refuse levels of more than eight bits, which Pillow would clip to 0..255 or truncate."""
    if not np.isfinite(levels_HW).all():
        raise DataError(f"{path}: holds NaN or infinity; expected levels from 0 to 255")
    low, high = levels_HW.min(), levels_HW.max()
    fractions = levels_HW.dtype.kind == "f" and 0 < high <= 1
    if low < 0 or high > 255 or fractions:
        raise DataError(f"{path}: levels from {low:g} to {high:g}; expected 0 (black) to 255 (white)")
