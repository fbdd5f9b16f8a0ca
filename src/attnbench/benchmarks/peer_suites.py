"""Suites with peers: which toolkits take part, and their job descriptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

from attnbench.benchmarks.configs import BEAM_SIZES
from attnbench.benchmarks.measurement import BenchmarkCase, Measurements, SuitePlan
from attnbench.benchmarks.peer_inputs import TranslationInputs
from attnbench.benchmarks.peer_runs import KEEP_PAGES_VARIABLES, OUR_NAME, Peer, PeerGroup
from attnbench.benchmarks.results import Settings
from attnbench.config import Config
from attnbench.config.images import ImagesConfig
from attnbench.config.recurrent import RecurrentConfig
from attnbench.records.identity import config_to_dict

_BF16, _COMPILE = {"trainer.precision": "bf16-mixed"}, {"trainer.compile": True}

PEERS: dict[str, tuple[Peer, ...]] = {
    "peers_training": (
        Peer(OUR_NAME, "ours"),
        Peer(f"{OUR_NAME}, bf16", "ours", config_changes=_BF16),
        Peer(f"{OUR_NAME}, compiled", "ours", config_changes=_COMPILE),
        Peer("nn.Transformer", "nn_transformer"),
        Peer("nn.Transformer, pages kept", "nn_transformer", variables=KEEP_PAGES_VARIABLES),
        Peer("fairseq", "fairseq", "fairseq"),
        Peer("OpenNMT-py", "opennmt", "opennmt"),
        Peer("HF Trainer", "huggingface", "huggingface"),
        Peer("JoeyNMT", "joeynmt", "joeynmt"),
    ),
    "peers_decoding": (
        Peer(OUR_NAME, "ours"),
        Peer("CTranslate2", "ctranslate2", "huggingface", uses_torch=False),
        Peer("fairseq", "fairseq", "fairseq"),
        Peer("HF generate", "huggingface", "huggingface"),
    ),
    "peers_pictures": (
        Peer(OUR_NAME, "ours"),
        Peer(f"{OUR_NAME}, bare loop", "vision", variant="ours"),
        Peer(f"{OUR_NAME}, bf16", "ours", config_changes=_BF16),
        Peer(f"{OUR_NAME}, compiled", "ours", config_changes=_COMPILE),
        Peer("timm", "vision", "pictures", variant="timm"),
        Peer("timm, bf16", "vision", "pictures", variant="timm", config_changes=_BF16),
        Peer("torchvision", "vision", "pictures", variant="torchvision"),
        Peer("SimpleViT", "vision", "pictures", variant="simple_vit"),
    ),
    "peers_recurrent": (
        Peer(OUR_NAME, "recurrent", variant="ours"),
        Peer("step by step", "recurrent", variant="step_by_step"),
    ),
    "overhead": (
        Peer(OUR_NAME, "ours", variant="full"),
        Peer("no callbacks, no logger", "ours"),
        Peer("bare loop", "ours", variant="bare"),
    ),
}


def plan_suite(name: str, settings: Settings, configs: Mapping[str, Config]) -> SuitePlan:
    """Plan a suite with peers.

    Args:
        name: one of results.CONTESTS.
        settings: options of the command.
        configs: config by group.
    """
    notes = [
        f"A process each, on one core, in turns of at least {settings.seconds:g} s; repeats: {settings.repeats}."
        " peak_rss: of the process. Percents: of a turn under torch's profiler, which itself counts as outside."
    ]
    subjects = _PLAN_FUNCTIONS[name](settings, configs, notes)
    return SuitePlan("task", notes, subjects, warmup=0)


def _build_cases(group: PeerGroup, suite: str) -> list[BenchmarkCase]:
    only = group.settings.only
    return [
        group.build_case(peer)
        for peer in PEERS[suite]
        if only is None or peer.name == OUR_NAME or any(part.lower() in peer.name.lower() for part in only)
    ]


def _plan_training(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[BenchmarkCase]:
    (group, config), *_ = configs.items()
    sentences = TranslationInputs(config, settings)
    notes.append(
        f"Updates of at most {sentences.job['batch_tokens']:,} places, padding included, on the longer side (HF"
        " Trainer: as many sentences as have them on average; JoeyNMT: in no order of lengths);"
        " target_tokens are without padding. Loading batches is in it."
        " Label smoothing, dropout, optimizer and tied embeddings are the same."
    )
    job = sentences.job | {"what": "training", "warmup": 2}
    return _build_cases(PeerGroup(group, "target_tokens", job, settings, notes, sentences), "peers_training")


def _plan_overhead(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[BenchmarkCase]:
    (group, config), *_ = configs.items()
    sentences = TranslationInputs(config, settings)
    job = sentences.job | {"what": "training", "warmup": 12}
    notes.append(
        f"The same network on the same batches: {OUR_NAME} as it trains, with every callback and W&B offline; Lightning"
        " alone; and a loop without either. Validation and checkpoints are not in it."
    )
    return _build_cases(PeerGroup(group, "target_tokens", job, settings, notes, sentences), "overhead")


class _DecodingGroup(PeerGroup):
    """Group of peers whose translations are also scored."""

    def summarize(self, answer: dict[str, Any], greeting: dict[str, Any]) -> Measurements:
        """Add BLEU and the mean length of the translations.

        Args:
            answer: last answer of the peer.
            greeting: first message of the peer, with its hypotheses.
        """
        found: list[list[int]] = greeting["hypotheses"]
        tokens = sum(len(ids) + 1 for ids in found) / len(found)
        bleu = cast(TranslationInputs, self.inputs).compute_bleu(found)
        return super().summarize(answer, greeting) | {"bleu": bleu, "tokens_per_sentence": tokens}


def _plan_decoding(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[BenchmarkCase]:
    subjects: list[BenchmarkCase] = []
    for group, config in configs.items():
        sentences = TranslationInputs(config, settings)
        job = sentences.job | {"what": "decoding", "warmup": 0, "beam_size": BEAM_SIZES[group]}
        job["decode_tokens"] = job["decode_tokens"] // BEAM_SIZES[group]
        subjects += _build_cases(_DecodingGroup(group, "sentences", job, settings, notes, sentences), "peers_decoding")
    weights = "random weights" if settings.checkpoint is None else f"the weights of {settings.checkpoint}"
    notes.append(
        "A translation ends at 1.5 times its source's tokens and 20 (CTranslate2, HF generate: its batch's longest)."
        f" The first {job['sentences']} sentences of the test set, {weights}, the same for all; sorted by length,"
        f" source tokens a batch: {sentences.job['decode_tokens']:,} over the beam. bleu: on tokens, of these."
    )
    return subjects


def _plan_vision(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[BenchmarkCase]:
    notes.append(
        f"Batches of 128 pictures with one channel. {OUR_NAME}: its whole loop, loading and augmentation among it; all"
        " others: one bare loop over random pictures in memory, with the same optimizer. SimpleViT has no dropout."
    )
    subjects: list[BenchmarkCase] = []
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
        subjects += _build_cases(PeerGroup(group, "images", job, settings, notes), "peers_pictures")
    return subjects


def _plan_recurrent(settings: Settings, configs: Mapping[str, Config], notes: list[str]) -> list[BenchmarkCase]:
    notes.append(
        "GRU encoder-decoders with additive attention, 128 sentences of one length a batch, 1,000 types; step by step:"
        " the algorithm of d2l.ai, chapter 11.4, written anew. One bare loop for both."
    )
    subjects: list[BenchmarkCase] = []
    for group, config in configs.items():
        size = cast(RecurrentConfig, config.model)
        job = {
            "what": "training", "warmup": 1, "config": config_to_dict(config), "length": int(group.partition(" ")[0]),
            "model": {"d_hidden": size.d_hidden, "depth": size.depth, "dropout": size.dropout},
            "batch_size": 128, "vocab": 1000, "lr": config.optim.lr,
        }  # fmt: skip
        subjects += _build_cases(PeerGroup(group, "target_tokens", job, settings, notes), "peers_recurrent")
    return subjects


_PLAN_FUNCTIONS: dict[str, Callable[[Settings, Mapping[str, Config], list[str]], list[BenchmarkCase]]] = {
    "peers_training": _plan_training,
    "peers_decoding": _plan_decoding,
    "peers_pictures": _plan_vision,
    "peers_recurrent": _plan_recurrent,
    "overhead": _plan_overhead,
}
