"""Data module of classification: images in memory, in batches."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from attnbench.config import Config
from attnbench.config.images import ImagesConfig
from attnbench.config.task import ClassificationConfig
from attnbench.data.image_batches import (
    Augmentation,
    ImageBatch,
    build_evaluation_sampler,
    build_loader,
    build_update_sampler,
    fit_image_transform,
)
from attnbench.data.images import Images, load_image_set
from attnbench.data.overlap import Overlap, count_overlap
from attnbench.data.sharding import UpdateSampler
from attnbench.tasks.data import TaskData


class ClassificationData(TaskData):
    """Images in batches; only training uses augmentation."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.data_config = cast(ImagesConfig, config.data)
        self.images = load_image_set(self.data_config, config.paths)
        self.preparation = fit_image_transform(self.images.train, self.data_config.image_size)
        self._train = self.images.train
        count = config.debug.overfit_batches
        if count:
            first = build_update_sampler(len(self._train), self.data_config.batch_size, seed=config.seed)
            rows = [share.rows_B for share, _ in zip(first, range(count), strict=False)]
            self._train = self._train.select(torch.cat([torch.from_numpy(rows_B) for rows_B in rows]))

    def get_split(self, stage: str) -> Images:
        """Return the images of a stage."""
        splits = {"train": self._train, "val": self.images.val, "test": self.images.test}
        return splits[self.get_split_name(stage)]

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each image file."""
        return self.images.checksums

    @property
    def notes(self) -> list[str]:
        """Notes of the record about the images."""
        present = set(self.images.train.labels_N.tolist())
        if len(present) > 1:
            return self.images.notes
        name = self.images.classes[present.pop()]
        return [*self.images.notes, f"train: pictures of one class only ({name}): nothing to learn"]

    @cached_property
    def overlap(self) -> Overlap:
        """Number of images that are also in the training set, compared by pixels before augmentation."""
        images = self.images
        train = {"picture": _compute_digests(images.train)}
        return {
            split.name: count_overlap(train, {"picture": _compute_digests(split)})
            for split in (images.val, images.test)
        }

    def build_assets(self) -> dict[str, Any]:
        """Return the classes, and how pixels are normalized."""
        channels = self.images.train.pixels_NCHW.shape[1]
        return {"classes": self.images.classes, "channels": channels, "preparation": self.preparation._asdict()}

    def build_update_sampler(self, **placement: int) -> UpdateSampler:
        """Build the sampler of updates with batch_size images."""
        has_one_value = self.config.model.smallest_feature_map(self.data_config.image_size) == 1
        return build_update_sampler(
            len(self._train),
            self.data_config.batch_size,
            seed=self.config.seed,
            min_micro_batch_size=2 if has_one_value else 1,
            **placement,
        )

    def build_train_loader(self, sampler: UpdateSampler) -> DataLoader[ImageBatch]:
        """Build the loader of augmented training batches."""
        augmentation = Augmentation(
            len(self._train), self.data_config.crop_padding, self.data_config.horizontal_flip, seed=self.config.seed
        )
        return build_loader(self._train, self.preparation, sampler, augmentation)

    def build_evaluation_loader(self, stage: str, **placement: int) -> DataLoader[ImageBatch]:
        """Build the loader of a stage: images in order, without augmentation."""
        images, batch_size = self.get_split(stage), cast(ClassificationConfig, self.config.task).eval_batch_size
        return build_loader(images, self.preparation, build_evaluation_sampler(len(images), batch_size, **placement))


def _compute_digests(images: Images) -> list[bytes]:
    """Return a short hash of each picture's pixels."""
    return [hashlib.blake2b(picture.tobytes(), digest_size=16).digest() for picture in images.pixels_NCHW.numpy()]
