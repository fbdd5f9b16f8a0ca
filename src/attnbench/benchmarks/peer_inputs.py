"""Inputs that all peers share: config, sentences as token ids, and weights for decoding."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from attnbench.benchmarks.results import Settings
from attnbench.config import Config, ConfigError, Fault
from attnbench.config.model import TransformerConfig
from attnbench.config.task import TranslationConfig
from attnbench.data.tokenizer import BOS, EOS, PAD, UNK
from attnbench.metrics.text import compute_bleu
from attnbench.nn.positions import compute_sinusoids
from attnbench.records.identity import config_to_dict
from attnbench.tasks.build import CheckpointError, build_task, load_task
from attnbench.tasks.translation import Translation
from attnbench.tasks.translation_data import TranslationData

_NUM_POSITIONS = 512


def create_temporary_folder(owner: object) -> Path:
    """Create a folder that is removed when `owner` is garbage-collected."""
    folder = tempfile.mkdtemp(prefix="attnbench-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


class TranslationInputs:
    """Sentences and weights in files, and the job description of the translation suites."""

    def __init__(self, config: Config, settings: Settings) -> None:
        folder = create_temporary_folder(self)
        torch.manual_seed(config.seed)
        task, data = build_task(config)
        self.data = cast(TranslationData, data)
        self.task = cast(Translation, task)
        if settings.checkpoint is not None:
            self._load_checkpoint(Path(settings.checkpoint))
        sentences = self._write_sentences(folder / "sentences.npz")
        weights = self._write_weights(folder / "weights.npz")
        model, chosen = cast(TransformerConfig, config.model), cast(TranslationConfig, config.task)
        self.job: dict[str, Any] = {
            "data": str(sentences),
            "weights": str(weights),
            "config": config_to_dict(config),
            "model": {key: getattr(model, key) for key in ("depth", "d_model", "d_ff", "num_heads", "dropout")},
            "vocab": self.task.codec.target.size,
            "pad": PAD, "bos": BOS, "eos": EOS, "unk": UNK,
            "batch_tokens": self.data.data_config.batch_tokens,
            "smoothing": chosen.label_smoothing,
            "lr": config.optim.lr,
            "lr_warmup": config.schedule.warmup_steps,
            "length_penalty": chosen.length_penalty,
            "max_ratio": chosen.max_ratio,
            "max_extra": chosen.max_extra,
            "decode_tokens": chosen.decode_tokens,
            "sentences": min(settings.test_sentences, len(self.data.pairs["test"])),
        }  # fmt: skip

    def compute_bleu(self, hypotheses: list[list[int]]) -> float:
        """Compute BLEU of the first test sentences, on the tokens of the data, to compare peers.

        Args:
            hypotheses: token ids of each sentence.
        """
        split = self.data.get_split("test")
        texts = [self.task.codec.target.decode(ids) for ids in hypotheses]
        return compute_bleu(texts, split.target[: len(texts)], tokenize="none").score

    def _load_checkpoint(self, path: Path) -> None:
        try:
            trained = load_task(path)
        except CheckpointError as error:
            raise ConfigError([Fault("--checkpoint", str(path), f"expected model.ckpt of a run; {error}")]) from error
        same = isinstance(trained, Translation) and trained.codec.to_json() == self.task.codec.to_json()
        if not same or trained.config.model != self.task.config.model:
            expected = "expected the checkpoint of a run of the same model on the same data"
            raise ConfigError([Fault("--checkpoint", str(path), expected)])
        self.task = cast(Translation, trained)

    def _write_sentences(self, path: Path) -> Path:
        arrays: dict[str, Any] = {}
        for split in ("train", "test"):
            pairs = self.data.pairs[split]
            for side, sequences in (("source", pairs.source), ("target", pairs.target)):
                arrays |= {f"{split}_{side}": sequences.flat_T, f"{split}_{side}_offsets": sequences.offsets}
        np.savez(path, **arrays)
        return path

    def _write_weights(self, path: Path) -> Path:
        state = {name: tensor.numpy() for name, tensor in self.task.network.state_dict().items()}
        np.savez(path, positions_LD=compute_sinusoids(_NUM_POSITIONS, state["output.weight"].shape[1]).numpy(), **state)
        return path
