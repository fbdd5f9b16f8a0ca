"""Batches of images: random crops and flips for each image, applied to whole batches, then normalization.

Legend: N images of the split, B images of a batch, C channels, H height, W width.
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
from attnbench.data.sharding import EvaluationSampler, Int64, MicroBatchSpec, UpdateSampler

NO_LABEL = -100  # index that torch's cross-entropy ignores


@dataclass(frozen=True)
class ImageBatch:
    """Images as normalized tensors."""

    images_BCHW: Tensor
    labels_B: Tensor
    indices_B: Tensor  # index of each image in its split
    num_images: int  # number of images with a loss
    num_update_images: float  # of the whole update, over all ranks and accumulated batches

    unit_name: ClassVar[str] = "images"  # unit of throughput

    @property
    def num_units(self) -> int:
        """Number of images."""
        return self.num_images

    @property
    def num_update_units(self) -> float:
        """Number of images in the whole update, over all ranks and micro-batches."""
        return self.num_update_images

    @property
    def token_counts(self) -> tuple[int, int]:
        """Number of images, twice: images have no padding."""
        return len(self.labels_B), len(self.labels_B)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ImageBatch:
        """Return the batch on another device.

        Args:
            device: target device.
            non_blocking: copy asynchronously from pinned memory.
        """
        return self._apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ImageBatch:
        """Return the batch in page-locked memory, from which copies to a GPU are asynchronous."""
        return self._apply(Tensor.pin_memory)

    def _apply(self, function: Callable[[Tensor], Tensor]) -> ImageBatch:
        """Return a batch with `function` applied to each tensor."""
        return replace(
            self,
            images_BCHW=function(self.images_BCHW),
            labels_B=function(self.labels_B),
            indices_B=function(self.indices_B),
        )


class ImageTransform(NamedTuple):
    """Transform from pixels to the input of a network: resizing if necessary, and normalization of each channel."""

    image_size: int
    mean: list[float]  # of the training pictures, by channel, where a pixel is 0..1
    std: list[float]

    def __call__(self, pixels_BCHW: Tensor) -> Tensor:
        """Return images_BCHW (float32) of uint8 pixels."""
        if pixels_BCHW.shape[-2:] != (self.image_size, self.image_size):
            pixels_BCHW = transform.resize(pixels_BCHW, [self.image_size, self.image_size], antialias=True)
        images_BCHW = transform.to_dtype(pixels_BCHW, torch.float32, scale=True)
        normal_BCHW: Tensor = transform.normalize(images_BCHW, self.mean, self.std, inplace=True)
        return normal_BCHW


def fit_image_transform(images: Images, image_size: int) -> ImageTransform:
    """Build the transform that gives these images mean 0 and standard deviation 1 in each channel.

    Args:
        images: training images.
        image_size: side in pixels.
    """
    # A histogram has integer counts, so the result does not depend on the order of summation.
    mean, std = [], []
    for channel in range(images.pixels_NCHW.shape[1]):
        counts_V = torch.bincount(images.pixels_NCHW[:, channel].flatten(), minlength=256).double()
        values_V = torch.arange(256, dtype=torch.float64) / 255
        share_V = counts_V / counts_V.sum()
        mean.append(float(share_V @ values_V))
        std.append(math.sqrt(max(float(share_V @ (values_V - mean[-1]) ** 2), 1e-12)))
    return ImageTransform(image_size, mean, std)


class Augmentation:
    """Random crops of padded images and horizontal flips; they depend only on seed, epoch and image index."""

    def __init__(self, count: int, crop_padding: int, flip: bool, *, seed: int) -> None:
        self._count, self._padding, self._flip, self._seed = count, crop_padding, flip, seed
        self._epoch: int | None = None
        self._shifts_N2, self._mirrored_N = torch.empty(0, 2), torch.empty(0)

    def __call__(self, pixels_BCHW: Tensor, rows_B: Tensor, epoch: int) -> Tensor:
        """Augment images.

        Args:
            pixels_BCHW: images.
            rows_B: their indices in the split.
            epoch: index of the epoch.
        """
        if epoch != self._epoch:
            self._draw_epoch(epoch)
        if self._padding:
            pixels_BCHW = crop_images(pixels_BCHW, self._shifts_N2[rows_B], self._padding)
        if self._flip:
            mirrored_B111 = self._mirrored_N[rows_B][:, None, None, None]
            pixels_BCHW = torch.where(mirrored_B111, transform.horizontal_flip(pixels_BCHW), pixels_BCHW)
        return pixels_BCHW

    def _draw_epoch(self, epoch: int) -> None:
        """Draw the crops and flips of all images for an epoch."""
        random = np.random.default_rng(
            (self._seed, epoch, 1)
        )  # the 1 separates this generator from the one that shuffles
        self._shifts_N2 = torch.from_numpy(random.integers(0, 2 * self._padding + 1, (self._count, 2)))
        self._mirrored_N = torch.from_numpy(random.random(self._count) < 0.5)
        self._epoch = epoch


def crop_images(pixels_BCHW: Tensor, shifts_B2: Tensor, padding: int) -> Tensor:
    """Crop each image, padded with zeros on all sides, at its own shift (row, column).

    torchvision's RandomCrop would use one window for all images of a batch.

    Args:
        pixels_BCHW: images.
        shifts_B2: row and column of each window in the padded image.
        padding: pixels on each side.
    """
    height, width = pixels_BCHW.shape[-2:]
    padded = transform.pad(pixels_BCHW, [padding] * 4)
    windows_BCYXHW = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view of all windows
    window_BCHW: Tensor = windows_BCYXHW[torch.arange(len(shifts_B2)), :, shifts_B2[:, 0], shifts_B2[:, 1]]
    return window_BCHW


def build_update_sampler(
    num_images: int,
    batch_size: int,
    *,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    num_micro_batches: int = 1,
    min_micro_batch_size: int = 1,
) -> UpdateSampler:
    """Build the sampler of this rank's micro-batches of every update.

    Args:
        num_images: images of the training set.
        batch_size: maximum number of images of an update; the sizes of updates differ by at most one.
        seed: seed of the run, which determines the order of each epoch.
        rank: rank of this process.
        world_size: number of processes.
        num_micro_batches: micro-batches of an update that each process computes one after the other.
        min_micro_batch_size: minimum number of images of a micro-batch; batch norm may need two.

    Raises:
        DataError: if an update has too few images for its micro-batches.
    """
    updates = math.ceil(num_images / batch_size)
    smallest = num_images // updates
    if min_micro_batch_size > 1 and smallest // (world_size * num_micro_batches) < min_micro_batch_size:
        most = smallest // (min_micro_batch_size * world_size)
        advice = (
            f"set trainer.micro_batch_size to at least {math.ceil(batch_size / (most * world_size))}" if most else ""
        )
        raise DataError(
            f"batch norm has no variance of one image, and {num_images} training images make updates of {smallest}, of "
            f"which each of {world_size * num_micro_batches} shares cannot have {min_micro_batch_size}: "
            f"{advice or 'set another data.batch_size, or fewer trainer.devices'}"
        )

    def plan(epoch: int) -> list[Int64]:
        return np.array_split(np.random.default_rng((seed, epoch)).permutation(num_images), updates)

    ones_N = np.ones(num_images, dtype=np.int64)
    return UpdateSampler(plan, ones_N, rank=rank, world_size=world_size, num_micro_batches=num_micro_batches)


def build_evaluation_sampler(
    num_images: int, batch_size: int, *, rank: int = 0, world_size: int = 1
) -> EvaluationSampler:
    """Build the sampler of this rank's batches of a split, in order.

    Args:
        num_images: number of images.
        batch_size: images per batch.
        rank: rank of this process.
        world_size: number of ranks.
    """
    mine_N = np.arange(rank, num_images, world_size)
    batches = [mine_N[first : first + batch_size] for first in range(0, len(mine_N), batch_size)]
    return EvaluationSampler(batches, np.ones(num_images, dtype=np.int64))


class _BatchDataset(Dataset[ImageBatch]):
    """Dataset that turns a `MicroBatchSpec` into an `ImageBatch`."""

    def __init__(self, images: Images, transform: ImageTransform, augmentation: Augmentation | None) -> None:
        self._images, self._preparation, self._augmentation = images, transform, augmentation

    def __getitem__(self, share: MicroBatchSpec) -> ImageBatch:
        rows_B = torch.from_numpy(share.rows_B)
        pixels_BCHW = self._images.pixels_NCHW[rows_B]
        if self._augmentation is not None:
            pixels_BCHW = self._augmentation(pixels_BCHW, rows_B, share.epoch)
        labels_B = self._images.labels_N[rows_B]
        return ImageBatch(
            images_BCHW=self._preparation(pixels_BCHW),
            labels_B=labels_B.fill_(NO_LABEL) if share.is_empty else labels_B,
            indices_B=rows_B,
            num_images=0 if share.is_empty else len(rows_B),
            num_update_images=share.num_update_units,
        )


def build_loader(
    images: Images,
    transform: ImageTransform,
    sampler: UpdateSampler | EvaluationSampler,
    augmentation: Augmentation | None = None,
    *,
    num_workers: int = 0,
) -> DataLoader[ImageBatch]:
    """Build a loader of `ImageBatch`; its batches do not depend on `num_workers`.

    Args:
        images: images of a split.
        transform: resizing and normalization.
        sampler: yields the images of each batch.
        augmentation: training augmentation, or None.
        num_workers: number of loader processes.
    """
    batches = _BatchDataset(images, transform, augmentation)
    return DataLoader(batches, batch_size=None, sampler=sampler, num_workers=num_workers)
