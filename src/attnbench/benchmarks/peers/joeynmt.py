"""Peer: JoeyNMT 2.3, its training on files with token numbers as words; batches are not sorted by length."""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from joeynmt.training import TrainManager, train

from attnbench.benchmarks.peers.corpus import Corpus
from attnbench.benchmarks.peers.serving import Job, Turns

_SPECIALS = ("unk", "pad", "bos", "eos")  # in JoeyNMT's order
_LANGUAGES = ("source", "target")


def main() -> None:
    """Train until no more turns are requested."""
    turns = Turns("joeynmt", "torch")
    torch.set_num_threads(turns.job["threads"])
    step = TrainManager._train_step

    def update(self: Any, batch: Any) -> Any:
        # A turn ends where the next update begins: the one before is then all done.
        if self.seen is not None:
            turns.count_units(self.seen)
        self.seen = batch.ntokens
        return step(self, batch)

    TrainManager.seen = None
    TrainManager._train_step = update
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(turns.job, folder)
        (folder / "model").mkdir()
        train(0, 1, build_settings(turns.job, folder), skip_test=True)


def write_files(job: Job, folder: Path) -> None:
    """Write JoeyNMT's files: training sentences, a few validation sentences, and the vocabulary.

    Args:
        job: the job.
        folder: folder to write into.
    """
    corpus = Corpus(job["data"], "train")
    for language, side, ending in zip(
        _LANGUAGES, (corpus.source, corpus.target), (slice(None, -1), slice(1, -1)), strict=True
    ):
        lines = [" ".join(map(str, ids[ending].tolist())) + "\n" for ids in side]
        (folder / f"train.{language}").write_text("".join(lines))
        (folder / f"dev.{language}").write_text("".join(lines[:2]))
    words = [*(f"<{name}>" for name in _SPECIALS), *map(str, range(len(_SPECIALS), job["vocab"]))]
    (folder / "vocabulary").write_text("\n".join(words) + "\n")


def build_settings(job: Job, folder: Path) -> dict[str, Any]:
    """Build JoeyNMT's config.

    Args:
        job: the job.
        folder: folder with the files.
    """
    size = job["model"]
    stack = {
        "type": "transformer", "num_layers": size["depth"], "num_heads": size["num_heads"],
        "embeddings": {"embedding_dim": size["d_model"], "scale": True, "dropout": 0.0},
        "hidden_size": size["d_model"], "ff_size": size["d_ff"], "dropout": size["dropout"], "layer_norm": "post",
    }  # fmt: skip
    sides = {
        {"source": "src", "target": "trg"}[language]: {
            "lang": language, "level": "word", "lowercase": False, "max_length": 256,
            "voc_file": str(folder / "vocabulary"), "voc_limit": job["vocab"],
        }
        for language in _LANGUAGES
    }  # fmt: skip
    symbols: dict[str, Any] = {f"{name}_token": f"<{name}>" for name in _SPECIALS}
    symbols |= {f"{name}_id": number for number, name in enumerate(_SPECIALS)}
    return {
        "name": "tiny", "joeynmt_version": "2.3.0", "model_dir": str(folder / "model"), "use_cuda": False,
        "fp16": False, "random_seed": 1,
        "data": {
            "train": str(folder / "train"), "dev": str(folder / "dev"), "dataset_type": "plain",
            "special_symbols": symbols, **sides,
        },
        "training": {
            "optimizer": "adam", "adam_betas": [0.9, 0.98], "learning_rate": job["lr"], "loss": "crossentropy",
            "label_smoothing": job["smoothing"], "normalization": "tokens", "batch_type": "token",
            "batch_size": job["batch_tokens"], "batch_multiplier": 1, "scheduling": "warmupinversesquareroot",
            "learning_rate_warmup": job["lr_warmup"], "epochs": 10**6, "shuffle": True, "overwrite": True,
            "validation_freq": 10**9, "logging_freq": 10**9, "early_stopping_metric": "loss",
        },
        "testing": {"beam_size": 1, "eval_metrics": ["bleu"]},
        "model": {
            "initializer": "xavier_uniform", "embed_initializer": "xavier_uniform", "tied_embeddings": True,
            "tied_softmax": True, "encoder": stack, "decoder": stack,
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
