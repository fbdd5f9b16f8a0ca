"""Peer: OpenNMT-py 3.5, its training command on files with token numbers as words."""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from onmt.bin import train as command
from onmt.trainer import Trainer

from attnbench.benchmarks.peers.corpus import Corpus
from attnbench.benchmarks.peers.serving import Job, Turns

_SPECIALS = ("<blank>", "<s>", "</s>", "<unk>")  # OpenNMT's names, in this project's order


def main() -> None:
    """Train until no more turns are requested."""
    turns = Turns("OpenNMT-py", "torch")
    job = turns.job
    torch.set_num_threads(job["threads"])
    accumulate = Trainer._gradient_accumulation

    def update(self: Any, batches: Any, *args: Any) -> None:
        accumulate(self, batches, *args)
        turns.count_units(sum(int((batch["tgt"][:, 1:] != job["pad"]).sum()) for batch in batches))

    Trainer._gradient_accumulation = update
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(job, folder)
        options, _ = command._get_parser().parse_known_args(build_settings(job, folder))
        command.train(options)


def write_files(job: Job, folder: Path) -> None:
    """Write OpenNMT's files: sentences, the vocabulary, and a config with their paths.

    Args:
        job: the job.
        folder: folder to write into.
    """
    corpus = Corpus(job["data"], "train")
    for side, ending in ((corpus.source, slice(None, -1)), (corpus.target, slice(1, -1))):
        path = folder / ("target" if side is corpus.target else "source")
        path.write_text("".join(" ".join(map(str, ids[ending].tolist())) + "\n" for ids in side))
    words = [*_SPECIALS, *map(str, range(len(_SPECIALS), job["vocab"]))]
    (folder / "vocabulary").write_text("".join(f"{word}\t{len(words) - rank}\n" for rank, word in enumerate(words)))
    corpora = f"{{train: {{path_src: {folder}/source, path_tgt: {folder}/target}}}}"
    (folder / "config.yaml").write_text(f"data: {corpora}\n")


def build_settings(job: Job, folder: Path) -> list[str]:
    """Build the arguments of OpenNMT's command line.

    Args:
        job: the job.
        folder: folder with the files.
    """
    size = job["model"]
    vocabulary = str(folder / "vocabulary")
    return [
        "--config", str(folder / "config.yaml"), "--src_vocab", vocabulary, "--tgt_vocab", vocabulary,
        "--share_vocab", "--share_embeddings", "--share_decoder_embeddings",
        "--save_model", str(folder / "model"), "--save_checkpoint_steps", "1000000", "--valid_steps", "1000000",
        "--train_steps", "1000000", "--report_every", "1000000", "--seed", "1",
        "--encoder_type", "transformer", "--decoder_type", "transformer", "--position_encoding", "True",
        "--layers", str(size["depth"]), "--heads", str(size["num_heads"]), "--hidden_size", str(size["d_model"]),
        "--word_vec_size", str(size["d_model"]), "--transformer_ff", str(size["d_ff"]),
        "--dropout", str(size["dropout"]), "--attention_dropout", "0.0", "--label_smoothing", str(job["smoothing"]),
        "--optim", "adam", "--adam_beta2", "0.998", "--learning_rate", "2.0", "--decay_method", "noam",
        "--warmup_steps", str(job["lr_warmup"]), "--max_grad_norm", "0", "--param_init_glorot", "--param_init", "0",
        "--batch_type", "tokens", "--batch_size", str(job["batch_tokens"]), "--normalization", "tokens",
        "--accum_count", "1", "--num_workers", "0", "--bucket_size", str(2**18), "--world_size", "1",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
