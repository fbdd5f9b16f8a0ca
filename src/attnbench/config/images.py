"""Sets of pictures with a class each; everything about them that changes a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from attnbench.config.data import DataConfig
from attnbench.config.fields import Fault, number, path, seed

# A set of pictures is held in memory, and each of them as numbers of four bytes.
_MOST_PICTURES = 10**7
_LARGEST_SIDE = 4096


class Channels(Enum):
    """What a picture of one's own is read as."""

    grey = "grey"
    rgb = "rgb"


@dataclass
class ImagesConfig(DataConfig):
    """What every set of pictures has."""

    batch_size: int = number(128, at_least=1)  # pictures of an update
    image_size: int = number(
        28, at_least=1, at_most=_LARGEST_SIDE
    )  # side in pixels; pictures of another size are resized
    val_images: int = number(6000, at_least=1)  # split off the training set, the same for every run
    split_seed: int = seed(0)  # which ones; `seed` is the run
    crop_padding: int = number(0, at_least=0)  # training: a random crop of the picture padded by so many pixels
    flip: bool = False  # training: mirrored half of the time

    @property
    def update_size(self) -> int:
        """What an update holds at most, in the batch's unit."""
        return self.batch_size

    def faults(self) -> Iterator[Fault]:
        """A crop must keep something of the picture."""
        if self.crop_padding >= self.image_size:
            yield Fault("crop_padding", f"{self.crop_padding}", f"expected less than data.image_size={self.image_size}")


@dataclass
class FashionMnistConfig(ImagesConfig):
    """Fashion-MNIST (Xiao et al. 2017): 60,000 and 10,000 grey pictures of 28x28, ten classes."""

    family: str = "fashion_mnist"
    train_images: int | None = number(None, at_least=1)  # the first so many of what validation leaves; null: all


@dataclass
class SyntheticGarmentsConfig(ImagesConfig):
    """Grey pictures of 28x28 drawn from random parameters, ten classes."""

    family: str = "synthetic_garments"
    drawing_seed: int = seed(0)  # the pictures; `seed` is the run
    train_images: int = number(4000, at_least=10, at_most=_MOST_PICTURES)
    val_images: int = number(500, at_least=10, at_most=_MOST_PICTURES)
    test_images: int = number(1000, at_least=10, at_most=_MOST_PICTURES)


@dataclass
class ImageFolderConfig(ImagesConfig):
    """The user's own pictures: <folder>/train/<class>/*.png, and val and test beside train where there are any."""

    family: str = "image_folder"
    folder: str = path("???")
    channels: Channels = Channels.rgb
    val_images: int = number(1000, at_least=1)  # only where there is no <folder>/val
    content: str | None = None  # of the files, a checksum: filled in, so that a run on other pictures is another run
