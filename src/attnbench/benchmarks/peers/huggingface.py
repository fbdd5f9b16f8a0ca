"""Peer: MarianMT of transformers, a Transformer of the same shape, with its Seq2SeqTrainer and `generate`."""

# Shapes: B batch, S source length, T target length
# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

from attnbench.benchmarks.peers.corpus import Corpus, pad_sentences
from attnbench.benchmarks.peers.serving import Job, Turns


def build_network(job: Job) -> Any:
    """Build the model: post-norm, all embeddings tied, sinusoidal positions."""
    size = job["model"]
    both = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (
            ("layers", size["depth"]), ("attention_heads", size["num_heads"]), ("ffn_dim", size["d_ff"]),
        )
    }  # fmt: skip
    return MarianMTModel(
        MarianConfig(
            vocab_size=job["vocab"],
            d_model=size["d_model"],
            dropout=size["dropout"],
            attention_dropout=0.0,
            activation_dropout=0.0,
            activation_function="relu",
            scale_embedding=True,
            max_position_embeddings=512,
            pad_token_id=job["pad"],
            eos_token_id=job["eos"],
            forced_eos_token_id=None,
            decoder_start_token_id=job["bos"],
            attn_implementation="sdpa",
            **both,
        )
    )


def collate(items: list[dict[str, Any]], pad: int) -> dict[str, Tensor]:
    """Collate a batch as transformers' own collator does; labels_BT are -100 at positions without loss.

    Args:
        items: examples.
        pad: id of the padding token.
    """
    source_BS, target_BT = (pad_sentences([item[key] for item in items], pad) for key in ("input_ids", "labels"))
    labels_BT = target_BT[:, 1:]
    return {
        "input_ids": torch.from_numpy(source_BS),
        "attention_mask": torch.from_numpy(source_BS != pad),
        "decoder_input_ids": torch.from_numpy(target_BT[:, :-1]),
        "labels": torch.from_numpy(np.where(labels_BT == pad, -100, labels_BT)),
    }


def build_training_arguments(job: Job, folder: str, batch_size: int) -> Any:
    """Build the arguments of the trainer.

    Args:
        job: the job.
        folder: folder for files.
        batch_size: number of sentences per batch.
    """
    return Seq2SeqTrainingArguments(
        folder,
        per_device_train_batch_size=batch_size,
        train_sampling_strategy="group_by_length",
        label_smoothing_factor=job["smoothing"],
        learning_rate=job["lr"],
        adam_beta2=0.98,
        adam_epsilon=1e-9,
        lr_scheduler_type="inverse_sqrt",
        warmup_steps=job["lr_warmup"],
        max_grad_norm=0.0,
        max_steps=10**6,
        optim="adamw_torch_fused",
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=1,
    )


def train(turns: Turns) -> None:
    """Train until no more turns are requested."""
    job, corpus = turns.job, Corpus(turns.job["data"], "train")
    examples = [
        {"input_ids": source, "labels": target} for source, target in zip(corpus.source, corpus.target, strict=True)
    ]
    # It has no batches by tokens: as many sentences as have them on average, those of like lengths together.
    longest = np.maximum(*corpus.get_lengths()).mean()

    class Trainer(Seq2SeqTrainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.units = int((inputs["labels"] != -100).sum())
            return super().training_step(model, inputs, *args, **kwargs)

    class TakesTurns(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.count_units(trainer.units)

    with tempfile.TemporaryDirectory() as folder:
        arguments = build_training_arguments(job, folder, int(job["batch_tokens"] / longest))
        trainer = Trainer(
            build_network(job), arguments, partial(collate, pad=job["pad"]), examples, callbacks=[TakesTurns()]
        )
        trainer.train()


def decode(turns: Turns) -> None:
    """Translate with this project's weights until no more turns are requested."""
    job = turns.job
    model = build_network(job)
    with np.load(job["weights"]) as weights:
        model.load_state_dict(rename_weights(weights, model.state_dict()))
    model.eval()
    sources = Corpus(job["data"], "test").source[: job["sentences"]]
    order = sorted(range(len(sources)), key=lambda row: len(sources[row]))

    def everything() -> list[list[int]]:
        found: list[list[int]] = [[]] * len(sources)
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and len(sources[order[end]]) * (end + 1 - start) <= job["decode_tokens"]:
                end += 1
            for row, ids in zip(order[start:end], translate(order[start:end]), strict=True):
                found[row] = ids
            start = end
        return found

    @torch.inference_mode()
    def translate(rows: list[int]) -> list[list[int]]:
        source_BS = torch.from_numpy(pad_sentences([sources[row] for row in rows], job["pad"]))
        ids_BT = model.generate(
            input_ids=source_BS,
            attention_mask=(source_BS != job["pad"]).long(),
            num_beams=job["beam_size"],
            do_sample=False,
            length_penalty=job["length_penalty"],
            max_new_tokens=int(source_BS.shape[1] * job["max_ratio"]) + job["max_extra"],
            bad_words_ids=None,
        )
        return [
            [token for token in ids[1:] if token not in (job["pad"], job["eos"])]
            for ids in cast(list[list[int]], ids_BT.tolist())
        ]

    turns.run_decoding(everything)


def rename_weights(weights: Any, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename this project's weights to MarianMT's names.

    Args:
        weights: arrays by name.
        like: state dict of the model.
    """
    parts = {
        "self_attn": "self_attention", "encoder_attn": "cross_attention", "fc1": "feed_forward.input_projection",
        "fc2": "feed_forward.output_projection", "self_attn_layer_norm": "around_self.norm",
        "encoder_attn_layer_norm": "around_cross.norm", "final_layer_norm": "around_feed_forward.norm",
    }  # fmt: skip
    found = {}
    for name, tensor in like.items():
        if name == "final_logits_bias":
            found[name] = torch.zeros_like(tensor)
        elif "embed_positions" in name:
            found[name] = torch.from_numpy(weights["positions_LD"])[: len(tensor)]
        elif "layers" not in name:
            found[name] = torch.from_numpy(weights["source_embedding.weight"])
        else:
            _, side, _, number, part, *rest, kind = name.split(".")
            at = f"{side}.{number}.{parts[part]}"
            if rest and rest[0] != "out_proj":
                place = ("q_proj", "k_proj", "v_proj").index(rest[0])
                whole = torch.from_numpy(weights[f"{at}.qkv.{kind}"])
                found[name] = whole.chunk(3)[place]
            else:
                found[name] = torch.from_numpy(weights[f"{at}{'.out' * bool(rest)}.{kind}"])
    return found


def main() -> None:
    """Train or translate, as the job says."""
    turns = Turns("transformers", "torch")
    torch.set_num_threads(turns.job["threads"])
    torch.manual_seed(1)
    (decode if turns.job["what"] == "decoding" else train)(turns)


if __name__ == "__main__":
    main()
