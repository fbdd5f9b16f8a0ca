"""What the data of every task shares: laid out over ranks, and its place in an epoch kept in the checkpoint."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from attnbench.config import Config
from attnbench.data.overlap import Overlap
from attnbench.data.sharding import UpdateSampler


class TaskData(pl.LightningDataModule):
    """Data loaded, checked and encoded when it is made.

    Raises:
        DataError: the set is missing or is not what it should be.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._done = (0, 0)  # an epoch, and how many of its batches an earlier session did

    @property
    @abstractmethod
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file the data came from."""

    @property
    @abstractmethod
    def notes(self) -> list[str]:
        """What a record must say of the data."""

    @property
    @abstractmethod
    def overlap(self) -> Overlap:
        """How many examples of validation and of each test set are in the training set too, by side."""

    @abstractmethod
    def build_assets(self) -> dict[str, Any]:
        """What a checkpoint needs of the data, as plain values."""

    @abstractmethod
    def build_update_sampler(self, **placement: int) -> UpdateSampler:
        """The updates of training, given rank, world_size and accumulate."""

    @abstractmethod
    def build_train_loader(self, sampler: UpdateSampler) -> DataLoader[Any]:
        """Their batches."""

    @abstractmethod
    def build_evaluation_loader(self, stage: str, **placement: int) -> DataLoader[Any]:
        """Batches of a stage (val, or one of `test_stages`), each example on one rank, given rank and world_size."""

    def get_split_name(self, stage: str) -> str:
        """The split that a stage (train, val, test) is about; who overfits is validated on what was trained on."""
        return "train" if stage == "val" and self.config.debug.overfit_batches else stage

    def train_dataloader(self) -> DataLoader[Any]:
        """This rank's shares of each update, from where an earlier session stopped."""
        sampler = self.build_update_sampler(
            num_micro_batches=self._trainer.accumulate_grad_batches, **self._get_rank_arguments()
        )
        sampler.resume(*self._done)
        return self.build_train_loader(sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation set, each example on one rank."""
        return self.build_evaluation_loader("val", **self._get_rank_arguments())

    @property
    def test_stages(self) -> list[str]:
        """The stages that are tests: the one that a run is known by, and further test sets by name."""
        return ["test"]

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """Each test set, each example on one rank."""
        return [self.build_evaluation_loader(stage, **self._get_rank_arguments()) for stage in self.test_stages]

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands: how many batches of it are done."""
        done = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return {"epoch": self._trainer.current_epoch, "batches": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._done = (state_dict["epoch"], state_dict["batches"])

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "the trainer comes with fit or test"
        return self.trainer

    def _get_rank_arguments(self) -> dict[str, int]:
        return {"rank": self._trainer.global_rank, "world_size": self._trainer.world_size}
