"""Decoding: greedy and with a beam, with a cache and without, by models with random weights."""

# Shapes: B sentences, S source length

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from attnbench.benchmarks.device import seconds
from attnbench.benchmarks.measurement import Numbers, Plan, Subject
from attnbench.benchmarks.results import Settings
from attnbench.config import Config
from attnbench.data.tokenizer import BOS, EOS, PAD
from attnbench.models.decoding import Hypothesis, beam_search
from attnbench.tasks.build import build_task
from attnbench.tasks.translation import Translation
from attnbench.tasks.translation_data import TranslationData

_BEAM = 5


class Decoding:
    """A model and sentences, built when they are first asked for."""

    def __init__(self, config: Config, settings: Settings) -> None:
        self.config, self.settings = config, settings
        self.device = torch.device(settings.device)
        self.dtype: torch.dtype = getattr(torch, settings.dtype)

    @cached_property
    def built(self) -> tuple[Translation, Tensor]:
        """The task, and source_BS of the first sentences of its validation set."""
        torch.manual_seed(self.config.seed)
        task, data = build_task(self.config)
        rows_B = np.arange(self.settings.sentences)
        source_BS = torch.from_numpy(cast(TranslationData, data).pairs["val"].source.pad_rows(rows_B))
        return cast(Translation, task.eval().to(self.device)), source_BS.to(self.device)

    def decode(self, beam_size: int, cached: bool) -> list[Hypothesis]:
        """The best found of each sentence, at most as long as its source."""
        task, source_BS = self.built
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
            return beam_search(
                task.sequence_model,
                source_BS,
                beam_size=beam_size,
                max_lengths_B=(source_BS != PAD).sum(1),
                length_penalty=task.task_config.length_penalty,
                length_penalty_form=task.task_config.length_penalty_form,
                bos=BOS,
                eos=EOS,
                pad=PAD,
                use_cache=cached,
            )

    def sample(self, beam_size: int, cached: bool) -> Numbers:
        """Sentences a second."""
        taken = seconds(partial(self.decode, beam_size, cached), self.device)
        return {"sentences_per_sec": self.settings.sentences / taken}

    def once(self, beam_size: int, cached: bool) -> Numbers:
        """How long the translations are: random weights may end a sentence early."""
        found = self.decode(beam_size, cached)
        return {"tokens_per_sentence": sum(len(best.tokens) + 1 for best in found) / len(found)}


def plan(settings: Settings, configs: Mapping[str, Config]) -> Plan:
    """Each model, greedy and with a beam; the baseline is the same without a cache."""
    notes = [
        f"{settings.sentences} sentences of the synthetic language in one batch, random weights, at most as many"
        f" tokens as the source has; repeats: {settings.repeats}.",
        "recomputing: source and prefix are read anew for each token. tokens_per_sentence: EOS counted.",
    ]
    subjects = []
    for model, config in configs.items():
        decoding = Decoding(config, settings)
        for search, beam_size in (("greedy", 1), (f"beam {_BEAM}", _BEAM)):
            for how in ("recomputing", "cached"):
                once, sample = (partial(run, beam_size, how == "cached") for run in (decoding.once, decoding.sample))
                subjects.append(Subject(model, f"{search}, {how}", f"{search}, recomputing", sample, once))
    return Plan("model", notes, subjects, settings.warmup)
