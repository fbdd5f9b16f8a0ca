"""Config of image data sets with one class per image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from attnbench.config.data import DataConfig
from attnbench.config.fields import Fault, bounded_field, path_field, seed_field

# All images are held in memory as float32.
_MAX_IMAGES = 10**7
_MAX_IMAGE_SIZE = 4096


class Channels(Enum):
    """Color channels that the user's images are read with."""

    gray = "gray"
    rgb = "rgb"


@dataclass
class ImagesConfig(DataConfig):
    """Options of all image data sets."""

    batch_size: int = bounded_field(128, minimum=1)  # images per update
    image_size: int = bounded_field(
        28, minimum=1, maximum=_MAX_IMAGE_SIZE
    )  # side in pixels; pictures of another size are resized
    val_images: int = bounded_field(6000, minimum=1)  # taken from the training set, the same for every run
    split_seed: int = seed_field(0)  # seed of this split; `seed` is the run's
    crop_padding: int = bounded_field(0, minimum=0)  # training: random crop after padding by this many pixels
    horizontal_flip: bool = False  # training: flip half of the images

    @property
    def max_update_size(self) -> int:
        """Largest size of an update, in images."""
        return self.batch_size

    def find_faults(self) -> Iterator[Fault]:
        """Check that a crop is smaller than the image."""
        if self.crop_padding >= self.image_size:
            yield Fault("crop_padding", f"{self.crop_padding}", f"expected less than data.image_size={self.image_size}")


@dataclass
class FashionMnistConfig(ImagesConfig):
    """Fashion-MNIST (Xiao et al. 2017): 60,000 training and 10,000 test images, gray, 28x28, ten classes."""

    family: str = "fashion_mnist"
    train_images: int | None = bounded_field(None, minimum=1)  # number of images after the validation split; null: all


@dataclass
class SyntheticGarmentsConfig(ImagesConfig):
    """Gray images of 28x28, drawn with random parameters, ten classes."""

    family: str = "synthetic_garments"
    drawing_seed: int = seed_field(0)  # seed of the images; `seed` is the run's
    train_images: int = bounded_field(4000, minimum=10, maximum=_MAX_IMAGES)
    val_images: int = bounded_field(500, minimum=10, maximum=_MAX_IMAGES)
    test_images: int = bounded_field(1000, minimum=10, maximum=_MAX_IMAGES)


@dataclass
class ImageFolderConfig(ImagesConfig):
    """The user's own images: <folder>/train/<class>/*.png, optionally with val and test beside train."""

    family: str = "image_folder"
    folder: str = path_field("???")
    channels: Channels = Channels.rgb
    val_images: int = bounded_field(1000, minimum=1)  # used if there is no <folder>/val
    checksum: str | None = None  # checksum of the files, filled in automatically: other images give another run_id
