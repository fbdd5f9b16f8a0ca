"""The translation task's data: text loaded, vocabularies learned, batches laid out over ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from attnbench.config import Config
from attnbench.config.data import ParallelTextConfig
from attnbench.config.task import TranslationConfig
from attnbench.data.batching import Batch, EvaluationSampler, UpdateSampler, first_updates, loader
from attnbench.data.encoding import EncodedPairs, train_codec
from attnbench.data.pairs import ParallelText, Split
from attnbench.data.parallel_text import load


class TranslationData(pl.LightningDataModule):
    """Sentence pairs as batches; `text` keeps the sentences themselves, to score and to show.

    Raises:
        DataError: the set is missing or is not what it should be.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self._done = (0, 0)  # an epoch, and how many of its batches an earlier session did
        self.data_config = cast(ParallelTextConfig, config.data)
        self.text: ParallelText = load(self.data_config, config.paths)
        self.codec = train_codec(self.text, self.data_config, Path(config.paths.cache))
        limits: Any = {"max_len": self.data_config.max_len, "over_long": self.data_config.over_long}
        self.pairs: dict[str, EncodedPairs] = {
            split.name: self.codec.encode_pairs(split, **limits)
            for split in (self.text.train, self.text.val, self.text.test)
        }

        count = config.debug.overfit_batches
        if count:
            batch_tokens = self.data_config.batch_tokens
            self.pairs["train"] = first_updates(self.pairs["train"], batch_tokens, count, seed=config.seed)

    def split(self, stage: str) -> Split:
        """The sentences that a stage (train, val, test) is about; who overfits is validated on what was trained on."""
        name = "train" if stage == "val" and self.config.debug.overfit_batches else stage
        found: Split = getattr(self.text, name)
        return found

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each file the data came from."""
        return self.text.checksums

    @property
    def notes(self) -> list[str]:
        """What a record must say of the data."""
        return [*self.text.notes, *(note for pairs in self.pairs.values() for note in pairs.notes)]

    def assets(self) -> dict[str, Any]:
        """What a checkpoint needs of the data."""
        return {"codec": self.codec.to_json()}

    def train_dataloader(self) -> DataLoader[Batch]:
        """This rank's shares of each update."""
        sampler = UpdateSampler(
            self.pairs["train"],
            self.data_config.batch_tokens,
            seed=self.config.seed,
            accumulate=self._trainer.accumulate_grad_batches,
            **self._rank(),
        )
        sampler.resume(*self._done)
        return loader(self.pairs["train"], sampler)

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands: how many batches of it are done."""
        done = self._trainer.fit_loop.epoch_loop.batch_progress.current.ready
        return {"epoch": self._trainer.current_epoch, "batches": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._done = (state_dict["epoch"], state_dict["batches"])

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation set, each sentence on one rank."""
        return self._evaluation("val", self._task.val_beam_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test set, each sentence on one rank."""
        return self._evaluation("test", self._task.beam_size)

    @property
    def _task(self) -> TranslationConfig:
        return cast(TranslationConfig, self.config.task)

    def _evaluation(self, stage: str, beam_size: int) -> DataLoader[Batch]:
        pairs = self.pairs[self.split(stage).name]
        tokens = max(self._task.decode_tokens // beam_size, self.data_config.max_len)
        return loader(pairs, EvaluationSampler(pairs, tokens, **self._rank()))

    @property
    def _trainer(self) -> pl.Trainer:
        assert self.trainer is not None, "the trainer comes with fit or test"
        return self.trainer

    def _rank(self) -> dict[str, int]:
        return {"rank": self._trainer.global_rank, "world_size": self._trainer.world_size}
