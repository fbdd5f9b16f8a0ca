"""Who is beside this project in which suite, and what they are told: one job a group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

from attnbench.benchmarks.configs import BEAMS
from attnbench.benchmarks.measurement import Numbers, Plan, Subject
from attnbench.benchmarks.peer_inputs import Sentences
from attnbench.benchmarks.peer_runs import KEEP_PAGES, OURS, Contender, Contest
from attnbench.benchmarks.results import Settings
from attnbench.config import Config
from attnbench.config.images import ImagesConfig
from attnbench.config.recurrent import RecurrentConfig
from attnbench.records.identity import config_to_dict

_BF16, _COMPILED = {"trainer.precision": "bf16_mixed"}, {"trainer.compile": True}

CONTENDERS: dict[str, tuple[Contender, ...]] = {
    "peers_training": (
        Contender(OURS, "ours"),
        Contender(f"{OURS}, bf16", "ours", changes=_BF16),
        Contender(f"{OURS}, compiled", "ours", changes=_COMPILED),
        Contender("nn.Transformer", "nn_transformer"),
        Contender("nn.Transformer, pages kept", "nn_transformer", variables=KEEP_PAGES),
        Contender("fairseq", "fairseq", "fairseq"),
        Contender("OpenNMT-py", "opennmt", "opennmt"),
        Contender("HF Trainer", "huggingface", "huggingface"),
        Contender("JoeyNMT", "joeynmt", "joeynmt"),
    ),
    "peers_decoding": (
        Contender(OURS, "ours"),
        Contender("CTranslate2", "ctranslate2", "huggingface", by_torch=False),
        Contender("fairseq", "fairseq", "fairseq"),
        Contender("HF generate", "huggingface", "huggingface"),
    ),
    "peers_pictures": (
        Contender(OURS, "ours"),
        Contender(f"{OURS}, bare loop", "vision", how="ours"),
        Contender(f"{OURS}, bf16", "ours", changes=_BF16),
        Contender(f"{OURS}, compiled", "ours", changes=_COMPILED),
        Contender("timm", "vision", "pictures", how="timm"),
        Contender("timm, bf16", "vision", "pictures", how="timm", changes=_BF16),
        Contender("torchvision", "vision", "pictures", how="torchvision"),
        Contender("SimpleViT", "vision", "pictures", how="simple_vit"),
    ),
    "peers_recurrent": (
        Contender(OURS, "recurrent", how="ours"),
        Contender("step by step", "recurrent", how="step_by_step"),
    ),
    "overhead": (
        Contender(OURS, "ours", how="full"),
        Contender("no callbacks, no logger", "ours"),
        Contender("bare loop", "ours", how="bare"),
    ),
}


def plan(name: str, settings: Settings, configs: Mapping[str, Config]) -> Plan:
    """The suite `name`, one of results.CONTESTS; `configs` by group."""
    notes = [
        f"A process each, on one core, in turns of at least {settings.seconds:g} s; repeats: {settings.repeats}."
        " peak_rss: of the process. Percents: of a turn under torch's profiler, which itself counts as outside."
    ]
    subjects = _PLANS[name](settings, configs, notes)
    return Plan("task", notes, subjects, warmup=0)


def _subjects(contest: Contest, suite: str) -> list[Subject]:
    only = contest.settings.only
    return [
        contest.subject(contender)
        for contender in CONTENDERS[suite]
        if only is None or contender.name == OURS or any(part.lower() in contender.name.lower() for part in only)
    ]


def _training(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[Subject]:
    (group, config), *_ = configs.items()
    sentences = Sentences(config, settings)
    notes.append(
        f"Updates of at most {sentences.job['batch_tokens']:,} places, padding included, on the longer side (HF"
        " Trainer: as many sentences as have them on average; JoeyNMT: in no order of lengths);"
        " target_tokens are without padding. Loading batches is in it."
        " Label smoothing, dropout, optimizer and tied embeddings are the same."
    )
    job = sentences.job | {"what": "training", "warmup": 2}
    return _subjects(Contest(group, "target_tokens", job, settings, notes, sentences), "peers_training")


def _overhead(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[Subject]:
    (group, config), *_ = configs.items()
    sentences = Sentences(config, settings)
    job = sentences.job | {"what": "training", "warmup": 12}
    notes.append(
        f"The same network on the same batches: {OURS} as it trains, with every callback and W&B offline; Lightning"
        " alone; and a loop without either. Validation and checkpoints are not in it."
    )
    return _subjects(Contest(group, "target_tokens", job, settings, notes, sentences), "overhead")


class _Decoding(Contest):
    """Contenders whose translations are compared as well."""

    def finish(self, answer: dict[str, Any], said: dict[str, Any]) -> Numbers:
        """BLEU, and how many tokens there were to find."""
        found: list[list[int]] = said["hypotheses"]
        tokens = sum(len(ids) + 1 for ids in found) / len(found)
        bleu = cast(Sentences, self.prepared).bleu(found)
        return super().finish(answer, said) | {"bleu": bleu, "tokens_per_sentence": tokens}


def _decoding(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[Subject]:
    subjects: list[Subject] = []
    for group, config in configs.items():
        sentences = Sentences(config, settings)
        job = sentences.job | {"what": "decoding", "warmup": 0, "beam_size": BEAMS[group]}
        job["decode_tokens"] = job["decode_tokens"] // BEAMS[group]
        subjects += _subjects(_Decoding(group, "sentences", job, settings, notes, sentences), "peers_decoding")
    weights = "random weights" if settings.checkpoint is None else f"the weights of {settings.checkpoint}"
    notes.append(
        "A translation ends at 1.5 times its source's tokens and 20 (CTranslate2, HF generate: its batch's longest)."
        f" The first {job['sentences']} sentences of the test set, {weights}, the same for all; sorted by length,"
        f" source tokens a batch: {sentences.job['decode_tokens']:,} over the beam. bleu: on tokens, of these."
    )
    return subjects


def _pictures(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[Subject]:
    notes.append(
        f"Batches of 128 pictures with one channel. {OURS}: its whole loop, loading and augmentation among it; all"
        " others: one bare loop over random pictures in memory, with the same optimizer. SimpleViT has no dropout."
    )
    subjects: list[Subject] = []
    for group, config in configs.items():
        data, optim = cast(ImagesConfig, config.data), config.optim
        sizes = dataclasses.asdict(config.model).items()
        job = {
            "what": "training", "warmup": 1, "config": config_to_dict(config), "image_size": data.image_size,
            "model": {key: value for key, value in sizes if isinstance(value, (int, float))},
            "batch_size": data.batch_size,
            "attention_dropout": config.attention.dropout, "optimizer": optim.name.name, "lr": optim.lr,
            "clip": optim.gradient_clip_val,
        }  # fmt: skip
        subjects += _subjects(Contest(group, "images", job, settings, notes), "peers_pictures")
    return subjects


def _recurrent(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[Subject]:
    notes.append(
        "GRU encoder-decoders with additive attention, 128 sentences of one length a batch, 1,000 types; step by step:"
        " the algorithm of d2l.ai, chapter 11.4, written anew. One bare loop for both."
    )
    subjects: list[Subject] = []
    for group, config in configs.items():
        size = cast(RecurrentConfig, config.model)
        job = {
            "what": "training", "warmup": 1, "config": config_to_dict(config), "length": int(group.partition(" ")[0]),
            "model": {"d_hidden": size.d_hidden, "depth": size.depth, "dropout": size.dropout},
            "batch_size": 128, "vocab": 1000, "lr": config.optim.lr,
        }  # fmt: skip
        subjects += _subjects(Contest(group, "target_tokens", job, settings, notes), "peers_recurrent")
    return subjects


_PLANS: dict[str, Callable[[Settings, Mapping[str, Config], list[str]], list[Subject]]] = {
    "peers_training": _training,
    "peers_decoding": _decoding,
    "peers_pictures": _pictures,
    "peers_recurrent": _recurrent,
    "overhead": _overhead,
}
