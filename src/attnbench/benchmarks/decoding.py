"""Benchmark of decoding: greedy and beam search, with and without cache, by models with random weights."""

# Shapes: B sentences, S source length

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from attnbench.benchmarks.device import measure_seconds
from attnbench.benchmarks.measurement import BenchmarkCase, Measurements, SuitePlan
from attnbench.benchmarks.results import Settings
from attnbench.config import Config
from attnbench.data.tokenizer import BOS, EOS, PAD
from attnbench.models.decoding import Hypothesis, beam_search
from attnbench.tasks.build import build_task
from attnbench.tasks.translation import Translation
from attnbench.tasks.translation_data import TranslationData

_BEAM_SIZE = 5


class DecodingBenchmark:
    """Measurement of one model; the model and its sentences are built at first use."""

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

    def decode(self, beam_size: int, use_cache: bool) -> list[Hypothesis]:
        """Return the best hypothesis of each sentence, at most as long as its source.

        Args:
            beam_size: number of hypotheses per sentence.
            use_cache: whether to use the cache.
        """
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
                use_cache=use_cache,
            )

    def measure_speed(self, beam_size: int, use_cache: bool) -> Measurements:
        """Measure sentences per second."""
        taken = measure_seconds(partial(self.decode, beam_size, use_cache), self.device)
        return {"sentences_per_sec": self.settings.sentences / taken}

    def measure_length(self, beam_size: int, use_cache: bool) -> Measurements:
        """Measure the mean length of the translations; random weights may end a sentence early."""
        found = self.decode(beam_size, use_cache)
        return {"tokens_per_sentence": sum(len(best.tokens) + 1 for best in found) / len(found)}


def plan_suite(settings: Settings, configs: Mapping[str, Config]) -> SuitePlan:
    """Plan the suite: each model with greedy and beam search; the baseline is the same search without cache."""
    notes = [
        f"{settings.sentences} sentences of the synthetic language in one batch, random weights, at most as many"
        f" tokens as the source has; repeats: {settings.repeats}.",
        "recomputing: source and prefix are read anew for each token. tokens_per_sentence: EOS counted.",
    ]
    subjects = []
    for model, config in configs.items():
        decoding = DecodingBenchmark(config, settings)
        for search, beam_size in (("greedy", 1), (f"beam {_BEAM_SIZE}", _BEAM_SIZE)):
            for how in ("recomputing", "cached"):
                once, sample = (
                    partial(run, beam_size, how == "cached")
                    for run in (decoding.measure_length, decoding.measure_speed)
                )
                subjects.append(BenchmarkCase(model, f"{search}, {how}", f"{search}, recomputing", sample, once))
    return SuitePlan("model", notes, subjects, settings.warmup)
