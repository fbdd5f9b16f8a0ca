"""Sets of pictures with a class each; everything about them that changes a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from attnbench.config.data import DataConfig
from attnbench.config.fields import Fault, bounded_field, path_field, seed_field

# A set of pictures is held in memory, and each of them as numbers of four bytes.
_MAX_IMAGES = 10**7
_MAX_IMAGE_SIZE = 4096


class Channels(Enum):
    """What a picture of one's own is read as."""

    gray = "gray"
    rgb = "rgb"


@dataclass
class ImagesConfig(DataConfig):
    """What every set of pictures has."""

    batch_size: int = bounded_field(128, minimum=1)  # pictures of an update
    image_size: int = bounded_field(
        28, minimum=1, maximum=_MAX_IMAGE_SIZE
    )  # side in pixels; pictures of another size are resized
    val_images: int = bounded_field(6000, minimum=1)  # split off the training set, the same for every run
    split_seed: int = seed_field(0)  # which ones; `seed` is the run
    crop_padding: int = bounded_field(0, minimum=0)  # training: a random crop of the picture padded by so many pixels
    horizontal_flip: bool = False  # training: mirrored half of the time

    @property
    def max_update_size(self) -> int:
        """What an update holds at most, in the batch's unit."""
        return self.batch_size

    def find_faults(self) -> Iterator[Fault]:
        """A crop must keep something of the picture."""
        if self.crop_padding >= self.image_size:
            yield Fault("crop_padding", f"{self.crop_padding}", f"expected less than data.image_size={self.image_size}")


@dataclass
class FashionMnistConfig(ImagesConfig):
    """Fashion-MNIST (Xiao et al. 2017): 60,000 and 10,000 gray pictures of 28x28, ten classes."""

    family: str = "fashion_mnist"
    train_images: int | None = bounded_field(None, minimum=1)  # the first so many of what validation leaves; null: all


@dataclass
class SyntheticGarmentsConfig(ImagesConfig):
    """Gray pictures of 28x28 drawn from random parameters, ten classes."""

    family: str = "synthetic_garments"
    drawing_seed: int = seed_field(0)  # the pictures; `seed` is the run
    train_images: int = bounded_field(4000, minimum=10, maximum=_MAX_IMAGES)
    val_images: int = bounded_field(500, minimum=10, maximum=_MAX_IMAGES)
    test_images: int = bounded_field(1000, minimum=10, maximum=_MAX_IMAGES)


@dataclass
class ImageFolderConfig(ImagesConfig):
    """The user's own pictures: <folder>/train/<class>/*.png, and val and test beside train where there are any."""

    family: str = "image_folder"
    folder: str = path_field("???")
    channels: Channels = Channels.rgb
    val_images: int = bounded_field(1000, minimum=1)  # only where there is no <folder>/val
    checksum: str | None = None  # of the files, a checksum: filled in, so that a run on other pictures is another run
