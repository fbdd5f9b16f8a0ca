"""Peer: fairseq 0.12 with its own batches, trainer and beam search, on sentences in memory."""
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import dataclasses
import tempfile
from typing import Any

import numpy as np
import torch

from attnbench.benchmarks.peers.corpus import Corpus
from attnbench.benchmarks.peers.serving import Job, Turns

_dataclass: Any = dataclasses.dataclass


def _allow_unhashable_defaults(cls: Any = None, /, **options: Any) -> Any:
    """Allow unhashable default values in dataclasses, which fairseq's configs have and Python 3.11 refuses."""
    if cls is None:
        return lambda decorated: _allow_unhashable_defaults(decorated, **options)
    if cls.__module__.startswith("fairseq"):
        options.setdefault("unsafe_hash", True)
    return _dataclass(cls, **options)


dataclasses.dataclass = _allow_unhashable_defaults
from fairseq import options  # noqa: E402
from fairseq.data import Dictionary, LanguagePairDataset, ListDataset  # noqa: E402
from fairseq.dataclass.utils import convert_namespace_to_omegaconf  # noqa: E402
from fairseq.tasks.translation import TranslationTask  # noqa: E402
from fairseq.trainer import Trainer  # noqa: E402

dataclasses.dataclass = _dataclass


def build_dictionary(job: Job) -> Any:
    """Build a vocabulary of numbers with this project's special tokens."""
    found = Dictionary()
    found.symbols = [str(number) for number in range(job["vocab"])]
    found.indices = {symbol: number for number, symbol in enumerate(found.symbols)}
    found.count = [1] * job["vocab"]
    found.pad_index, found.bos_index, found.eos_index, found.unk_index = (
        job[name] for name in ("pad", "bos", "eos", "unk")
    )
    return found


def build_settings(job: Job, folder: str) -> Any:
    """Build the options that fairseq's command line would have.

    Args:
        job: the job.
        folder: folder for files.
    """
    size = job["model"]
    shape = {"layers": size["depth"], "attention-heads": size["num_heads"], "embed-dim": size["d_model"]}
    shape["ffn-embed-dim"] = size["d_ff"]
    words = [
        folder, "--arch", "transformer", "--task", "translation", "--share-all-embeddings", "--cpu", "--seed", "1",
        *(f"--{side}-{name}={value}" for side in ("encoder", "decoder") for name, value in shape.items()),
        f"--dropout={size['dropout']}", "--criterion", "label_smoothed_cross_entropy",
        f"--label-smoothing={job['smoothing']}", "--optimizer", "adam", "--adam-betas", "(0.9, 0.98)",
        "--adam-eps=1e-9", "--clip-norm=0", f"--lr={job['lr']}", "--lr-scheduler", "inverse_sqrt",
        f"--warmup-updates={job['lr_warmup']}", "--warmup-init-lr=0", f"--max-tokens={job['batch_tokens']}",
        f"--save-dir={folder}", "--no-save", "--log-format", "none",
    ]  # fmt: skip
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), words))


def build_pairs(corpus: Corpus, words: Any, count: int | None = None) -> Any:
    """Build fairseq's data set of the first `count` pairs.

    Args:
        corpus: the sentences.
        words: the vocabulary.
        count: number of pairs; None: all.
    """
    sides = []
    for side, first in ((corpus.source, 0), (corpus.target, 1)):
        tensors = [torch.from_numpy(ids[first:].astype(np.int64)) for ids in side[:count]]
        sides += [ListDataset(tensors, [len(ids) for ids in tensors]), np.array([len(ids) for ids in tensors]), words]
    return LanguagePairDataset(*sides, left_pad_source=True, left_pad_target=False)


def train(turns: Turns, cfg: Any, task: Any, words: Any) -> None:
    """Train as fairseq_cli.train does, until no more turns are requested.

    Args:
        turns: turns of this process.
        cfg: fairseq's config.
        task: fairseq's task.
        words: the vocabulary.
    """
    model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
    task.datasets["train"] = build_pairs(Corpus(turns.job["data"], "train"), words)
    trainer = Trainer(cfg, task, model, criterion)
    batches = task.get_batch_iterator(task.datasets["train"], max_tokens=cfg.dataset.max_tokens, seed=1)
    while True:
        for sample in batches.next_epoch_itr(shuffle=True):
            trainer.train_step([sample])
            turns.count_units(sample["ntokens"])


def decode(turns: Turns, cfg: Any, task: Any, words: Any) -> None:
    """Translate with this project's weights until no more turns are requested.

    Args:
        turns: turns of this process.
        cfg: fairseq's config.
        task: fairseq's task.
        words: the vocabulary.
    """
    job = turns.job
    model = task.build_model(cfg.model)
    with np.load(job["weights"]) as weights:
        model.load_state_dict(rename_weights(weights, model.state_dict(), job["model"]["d_model"]))
        for side in (model.encoder, model.decoder):
            # Its places are counted from behind its padding's number.
            places_LD = torch.from_numpy(weights["positions_LD"])
            side.embed_positions.weights = torch.cat((places_LD[:1].repeat(job["pad"] + 1, 1), places_LD))
    for layer in model.encoder.layers:
        layer.can_use_fastpath = False  # its call of torch's fused layer is refused by torch as it now is
    model.eval()
    data = build_pairs(Corpus(job["data"], "test"), words, job["sentences"])
    cfg.generation.beam, cfg.generation.lenpen = job["beam_size"], job["length_penalty"]
    cfg.generation.max_len_a, cfg.generation.max_len_b = job["max_ratio"], job["max_extra"]
    generator = task.build_generator([model], cfg.generation)
    batches = data.batch_by_size(data.ordered_indices(), max_tokens=job["decode_tokens"])

    def everything() -> list[list[int]]:
        found: dict[int, list[int]] = {}
        with torch.inference_mode():
            for rows in batches:
                sample = data.collater([data[row] for row in rows])
                best = generator.generate([model], sample, bos_token=job["bos"])
                for row, hypotheses in zip(sample["id"].tolist(), best, strict=True):
                    found[row] = [token for token in hypotheses[0]["tokens"].tolist() if token != job["eos"]]
        return [found[row] for row in sorted(found)]

    turns.run_decoding(everything)


def rename_weights(weights: Any, like: dict[str, Any], d_model: int) -> dict[str, Any]:
    """Rename this project's weights to fairseq's names.

    Args:
        weights: arrays by name.
        like: fairseq's state dict.
        d_model: width of the model.
    """
    parts = {
        "self_attn": "self_attention", "encoder_attn": "cross_attention", "fc1": "feed_forward.input_projection",
        "fc2": "feed_forward.output_projection", "self_attn_layer_norm": "around_self.norm",
        "encoder_attn_layer_norm": "around_cross.norm", "final_layer_norm": "around_feed_forward.norm",
    }  # fmt: skip
    found = {}
    for name, tensor in like.items():
        if ".layers." in name and name.count(".") > 3:
            side, _, number, part, *rest, kind = name.split(".")
            at = f"{side}.{number}.{parts[part]}"
            if rest and rest[0] != "out_proj":
                place = ("q_proj", "k_proj", "v_proj").index(rest[0]) * d_model
                found[name] = torch.from_numpy(weights[f"{at}.qkv.{kind}"][place : place + d_model])
            else:
                found[name] = torch.from_numpy(weights[f"{at}{'.out' * bool(rest)}.{kind}"])
        else:  # what its fused encoder layer has of its own, it fills from the others by itself
            table = name.endswith(("embed_tokens.weight", "output_projection.weight"))
            found[name] = torch.from_numpy(weights["source_embedding.weight"]) if table else tensor
    return found


def main() -> None:
    """Train or translate, as the job says."""
    turns = Turns("fairseq", "torch")
    torch.set_num_threads(turns.job["threads"])
    torch.manual_seed(1)
    words = build_dictionary(turns.job)
    with tempfile.TemporaryDirectory() as folder:
        cfg = build_settings(turns.job, folder)
        task = TranslationTask(cfg.task, words, words)
        (decode if turns.job["what"] == "decoding" else train)(turns, cfg, task, words)


if __name__ == "__main__":
    main()
