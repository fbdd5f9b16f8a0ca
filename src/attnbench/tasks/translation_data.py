"""Data module of translation: text, vocabularies, encoded sentences."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from torch.utils.data import DataLoader

from attnbench.config import Config
from attnbench.config.data import ParallelTextConfig
from attnbench.config.task import TranslationConfig
from attnbench.data.batching import (
    Batch,
    build_evaluation_sampler,
    build_loader,
    build_update_sampler,
    select_first_updates,
)
from attnbench.data.encoding import EncodedPairs, train_tokenizers
from attnbench.data.errors import DataError
from attnbench.data.overlap import Overlap, count_overlap
from attnbench.data.pairs import DETOKENIZED, ParallelText, Split
from attnbench.data.parallel_text import load_parallel_text
from attnbench.data.sharding import UpdateSampler
from attnbench.data.tokenizer import EOS, UNK
from attnbench.metrics.text import compute_bleu
from attnbench.metrics.tokenization import TokenizerError, choose_tokenizer, guess_language
from attnbench.tasks.data import TaskData

_MAX_UNKNOWN_SHARE = 0.3  # share of <unk> above which the record has a note


class TranslationData(TaskData):
    """Sentence pairs in batches; `text` keeps the sentences for scores and samples."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.data_config = cast(ParallelTextConfig, config.data)
        self.text: ParallelText = load_parallel_text(self.data_config, config.paths)
        self.codec = train_tokenizers(self.text, self.data_config, Path(config.paths.cache))
        limits: Any = {"max_len": self.data_config.max_len, "on_too_long": self.data_config.on_too_long}
        self.pairs: dict[str, EncodedPairs] = {
            split.name: self.codec.encode_pairs(split, **limits) for split in self.text.splits
        }
        try:
            self.bleu_tokenizer, self._scoring_notes = choose_tokenizer(
                config.metrics.tokenize.name, guess_language(self.text.train.target)
            )
        except TokenizerError as error:
            raise DataError(str(error)) from error
        self._scoring_notes += [*self._find_unscorable(), *self._find_unknown()]
        count = config.debug.overfit_batches
        if count:
            batch_tokens = self.data_config.batch_tokens
            self.pairs["train"] = select_first_updates(self.pairs["train"], batch_tokens, count, seed=config.seed)

    def get_split(self, stage: str) -> Split:
        """Return the sentences of a stage."""
        name = self.get_split_name(stage)
        return next(split for split in self.text.splits if split.name == name)

    @property
    def test_stages(self) -> list[str]:
        """Names of the test stages: the main test set, then further ones."""
        return [split.name for split in (self.text.test, *self.text.extra_tests)]

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each text file."""
        return self.text.checksums

    @property
    def notes(self) -> list[str]:
        """Notes of the record about the text."""
        dropped = (note for pairs in self.pairs.values() for note in pairs.notes)
        return [*self.text.notes, *dropped, *self._scoring_notes]

    def _find_unscorable(self) -> Iterator[str]:
        """Find splits for which BLEU is 0 whatever is translated, since no reference has four words."""
        for split in self.text.splits[1:]:
            references = split.references.get(DETOKENIZED) or split.target
            if compute_bleu(references, references, tokenize=self.bleu_tokenizer).score == 0:
                yield (
                    f"{split.name}: no reference has four words by metrics.tokenize={self.bleu_tokenizer}, so BLEU is"
                    " 0 even for perfect translations; task.monitor=chrf or loss can still choose weights"
                )

    def _find_unknown(self) -> Iterator[str]:
        """Find splits of which a side is largely unknown to its vocabulary."""
        for name, pairs in self.pairs.items():
            for side, sequences in (("source", pairs.source), ("target", pairs.target)):
                words_T = sequences.flat_T[sequences.flat_T > EOS]
                share = float((words_T == UNK).mean()) if len(words_T) else 0.0
                if share > _MAX_UNKNOWN_SHARE:
                    yield (
                        f"{name}: {share:.0%} of the {side} tokens are <unk>: words that data.min_frequency and"
                        " data.vocab_size leave out, or text in another script or Unicode form than in training"
                    )

    @cached_property
    def overlap(self) -> Overlap:
        """Number of sentences of each side that are also in the training set, compared as the tokenizer sees them."""
        train, *others = ({"source": split.source, "target": split.target} for split in self.text.splits)
        names = [split.name for split in self.text.splits[1:]]
        return {name: count_overlap(train, split) for name, split in zip(names, others, strict=True)}

    def build_assets(self) -> dict[str, Any]:
        """Return the vocabularies."""
        return {"codec": self.codec.to_json()}

    def build_update_sampler(self, **placement: int) -> UpdateSampler:
        """Build the sampler of updates by token count."""
        return build_update_sampler(
            self.pairs["train"], self.data_config.batch_tokens, seed=self.config.seed, **placement
        )

    def build_train_loader(self, sampler: UpdateSampler) -> DataLoader[Batch]:
        """Build the loader of the sampler's batches."""
        return build_loader(self.pairs["train"], sampler)

    def build_evaluation_loader(self, stage: str, **placement: int) -> DataLoader[Batch]:
        """Build the loader of a stage, with batches by token count, smaller for wider beams."""
        task, pairs = cast(TranslationConfig, self.config.task), self.pairs[self.get_split_name(stage)]
        beam_size = task.val_beam_size if stage == "val" else task.beam_size
        tokens = max(task.decode_tokens // beam_size, self.data_config.max_len)
        return build_loader(pairs, build_evaluation_sampler(pairs, tokens, **placement))
