"""Pictures as batches: crops and mirrors drawn for each picture and applied to whole batches, then normalised.

Legend: N pictures of the split, B of a batch, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as transform

from attnbench.data.errors import DataError
from attnbench.data.images import Images
from attnbench.data.sharding import EvaluationSampler, Int64, Share, UpdateSampler

NO_LABEL = -100  # what torch's cross-entropy leaves out


@dataclass(frozen=True)
class ImageBatch:
    """Pictures as normalised tensors."""

    images_BCHW: Tensor
    labels_B: Tensor
    indices_B: Tensor  # where each picture stands in its split
    num_images: int  # to learn from
    update_images: float  # of the whole update, over all ranks and accumulated batches

    unit: ClassVar[str] = "images"  # what throughput counts

    @property
    def units(self) -> int:
        """How many of them there are to learn from."""
        return self.num_images

    @property
    def update_units(self) -> float:
        """How many of them the whole update has."""
        return self.update_images

    @property
    def places(self) -> tuple[int, int]:
        """Pictures, and all places: there is no padding."""
        return len(self.labels_B), len(self.labels_B)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        """The same on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """The same in page-locked memory, from which a GPU copies without waiting."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> ImageBatch:
        return replace(
            self,
            images_BCHW=function(self.images_BCHW),
            labels_B=function(self.labels_B),
            indices_B=function(self.indices_B),
        )


class Preparation(NamedTuple):
    """How pixels become what a network sees: resized if they are of another size, and normalised by channel."""

    image_size: int
    mean: list[float]  # of the training pictures, by channel, where a pixel is 0..1
    std: list[float]

    def __call__(self, pixels_BCHW: Tensor) -> Tensor:
        """images_BCHW of uint8 pixels."""
        if pixels_BCHW.shape[-2:] != (self.image_size, self.image_size):
            pixels_BCHW = transform.resize(pixels_BCHW, [self.image_size, self.image_size], antialias=True)
        images_BCHW = transform.to_dtype(pixels_BCHW, torch.float32, scale=True)
        normal_BCHW: Tensor = transform.normalize(images_BCHW, self.mean, self.std, inplace=True)
        return normal_BCHW


def prepare(images: Images, image_size: int) -> Preparation:
    """The preparation that gives these pictures mean 0 and standard deviation 1 in each channel."""
    # Through a histogram: whole numbers, so that the result does not depend on an order of summing.
    mean, std = [], []
    for channel in range(images.pixels_NCHW.shape[1]):
        counts_V = torch.bincount(images.pixels_NCHW[:, channel].flatten(), minlength=256).double()
        values_V = torch.arange(256, dtype=torch.float64) / 255
        share_V = counts_V / counts_V.sum()
        mean.append(float(share_V @ values_V))
        std.append(math.sqrt(max(float(share_V @ (values_V - mean[-1]) ** 2), 1e-12)))
    return Preparation(image_size, mean, std)


class Augmentation:
    """Random crops of padded pictures, and mirrors: drawn from (seed, epoch, picture), whoever loads it."""

    def __init__(self, count: int, crop_padding: int, flip: bool, *, seed: int) -> None:
        self._count, self._padding, self._flip, self._seed = count, crop_padding, flip, seed
        self._epoch: int | None = None
        self._shifts_N2, self._mirrored_N = torch.empty(0, 2), torch.empty(0)

    def __call__(self, pixels_BCHW: Tensor, rows_B: Tensor, epoch: int) -> Tensor:
        """What training sees of these pictures, which stand at `rows_B` of their split, in this epoch."""
        if epoch != self._epoch:
            self._draw(epoch)
        if self._padding:
            pixels_BCHW = crop(pixels_BCHW, self._shifts_N2[rows_B], self._padding)
        if self._flip:
            mirrored_B111 = self._mirrored_N[rows_B][:, None, None, None]
            pixels_BCHW = torch.where(mirrored_B111, transform.horizontal_flip(pixels_BCHW), pixels_BCHW)
        return pixels_BCHW

    def _draw(self, epoch: int) -> None:
        random = np.random.default_rng((self._seed, epoch, 1))  # the 1: not what shuffles
        self._shifts_N2 = torch.from_numpy(random.integers(0, 2 * self._padding + 1, (self._count, 2)))
        self._mirrored_N = torch.from_numpy(random.random(self._count) < 0.5)
        self._epoch = epoch


def crop(pixels_BCHW: Tensor, shifts_B2: Tensor, padding: int) -> Tensor:
    """Of each picture, padded with zeros all around, the window of its size whose corner is at its shift (row, column).

    torchvision's RandomCrop would take the same window of all pictures of a batch.
    """
    height, width = pixels_BCHW.shape[-2:]
    padded = transform.pad(pixels_BCHW, [padding] * 4)
    windows_BCYXHW = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view of every window
    window_BCHW: Tensor = windows_BCYXHW[torch.arange(len(shifts_B2)), :, shifts_B2[:, 0], shifts_B2[:, 1]]
    return window_BCHW


def update_sampler(
    count: int,
    batch_size: int,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    accumulate: int = 1,
    smallest_share: int = 1,
) -> UpdateSampler:
    """Build the sampler of this rank's shares of every update of an epoch.

    Args:
        count: images of the training set.
        batch_size: images of an update at most; the sizes of updates are equal to within one.
        seed: draws the order of each epoch.
        rank: of this process.
        world_size: processes.
        accumulate: shares of an update that each process computes one after the other.
        smallest_share: images that each share must have; batch norm may need two.

    Raises:
        DataError: an update has too few images for its shares.
    """
    updates = math.ceil(count / batch_size)
    smallest = count // updates
    if smallest_share > 1 and smallest // (world_size * accumulate) < smallest_share:
        most = smallest // (smallest_share * world_size)
        advice = f"set trainer.micro_batch to at least {math.ceil(batch_size / (most * world_size))}" if most else ""
        raise DataError(
            f"batch norm has no variance of one image, and {count} training images make updates of {smallest}, of "
            f"which each of {world_size * accumulate} shares cannot have {smallest_share}: "
            f"{advice or 'set another data.batch_size, or fewer trainer.devices'}"
        )

    def plan(epoch: int) -> list[Int64]:
        return np.array_split(np.random.default_rng((seed, epoch)).permutation(count), updates)

    ones_N = np.ones(count, dtype=np.int64)
    return UpdateSampler(plan, ones_N, rank=rank, world_size=world_size, accumulate=accumulate)


def evaluation_sampler(count: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> EvaluationSampler:
    """This rank's batches of a split, in order."""
    mine_N = np.arange(rank, count, world_size)
    batches = [mine_N[first : first + batch_size] for first in range(0, len(mine_N), batch_size)]
    return EvaluationSampler(batches, np.ones(count, dtype=np.int64))


class _Batches(Dataset[ImageBatch]):
    """Shares to batches."""

    def __init__(self, images: Images, preparation: Preparation, augmentation: Augmentation | None) -> None:
        self._images, self._preparation, self._augmentation = images, preparation, augmentation

    def __getitem__(self, share: Share) -> ImageBatch:
        rows_B = torch.from_numpy(share.rows_B)
        pixels_BCHW = self._images.pixels_NCHW[rows_B]
        if self._augmentation is not None:
            pixels_BCHW = self._augmentation(pixels_BCHW, rows_B, share.epoch)
        labels_B = self._images.labels_N[rows_B]
        return ImageBatch(
            images_BCHW=self._preparation(pixels_BCHW),
            labels_B=labels_B.fill_(NO_LABEL) if share.silent else labels_B,
            indices_B=rows_B,
            num_images=0 if share.silent else len(rows_B),
            update_images=share.update_units,
        )


def loader(
    images: Images,
    preparation: Preparation,
    sampler: UpdateSampler | EvaluationSampler,
    augmentation: Augmentation | None = None,
    *,
    workers: int = 0,
) -> DataLoader[ImageBatch]:
    """A loader of `ImageBatch`; the batches do not depend on `workers`."""
    batches = _Batches(images, preparation, augmentation)
    return DataLoader(batches, batch_size=None, sampler=sampler, num_workers=workers)
