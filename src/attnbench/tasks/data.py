"""Base class of data modules: data divided over ranks, and a position in the epoch that checkpoints store."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from attnbench.config import Config
from attnbench.data.overlap import Overlap
from attnbench.data.sharding import UpdateSampler


class TaskData(pl.LightningDataModule):
    """Data module that loads, checks and encodes its data when it is created.

    Raises:
        DataError: the data is missing or damaged.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._done = (0, 0)  # an epoch, and the number of its batches that an earlier session did

    @property
    @abstractmethod
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each data file."""

    @property
    @abstractmethod
    def notes(self) -> list[str]:
        """Notes of the record about the data."""

    @property
    @abstractmethod
    def overlap(self) -> Overlap:
        """Number of validation and test examples that are also in the training set, by side."""

    @abstractmethod
    def build_assets(self) -> dict[str, Any]:
        """Return what a checkpoint needs from the data, as plain values."""

    @abstractmethod
    def build_update_sampler(self, **placement: int) -> UpdateSampler:
        """Build the sampler of training updates for this rank."""

    @abstractmethod
    def build_train_loader(self, sampler: UpdateSampler) -> DataLoader[Any]:
        """Build the loader of the sampler's batches."""

    @abstractmethod
    def build_evaluation_loader(self, stage: str, **placement: int) -> DataLoader[Any]:
        """Build the loader of a stage (val, or one of `test_stages`); each example is on one rank."""

    def get_split_name(self, stage: str) -> str:
        """Return the split of a stage (train, val, test); with debug.overfit_batches, validation uses training data."""
        return "train" if stage == "val" and self.config.debug.overfit_batches else stage

    def train_dataloader(self) -> DataLoader[Any]:
        """Build the training loader of this rank, from where an earlier session stopped."""
        sampler = self.build_update_sampler(
            num_micro_batches=self._trainer.accumulate_grad_batches, **self._get_rank_arguments()
        )
        sampler.resume(*self._done)
        return self.build_train_loader(sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Build the validation loader; each example is on one rank."""
        return self.build_evaluation_loader("val", **self._get_rank_arguments())

    @property
    def test_stages(self) -> list[str]:
        """Names of the test stages: the main test set first, then further ones."""
        return ["test"]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Build the loader of each test set; each example is on one rank."""
        return [self.build_evaluation_loader(stage, **self._get_rank_arguments()) for stage in self.test_stages]

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch: the number of batches done."""
        done = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return {"epoch": self._trainer.current_epoch, "batches": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position in the epoch."""
        self._done = (state_dict["epoch"], state_dict["batches"])

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "the trainer comes with fit or test"
        return self.trainer

    def _get_rank_arguments(self) -> dict[str, int]:
        return {"rank": self._trainer.global_rank, "world_size": self._trainer.world_size}
