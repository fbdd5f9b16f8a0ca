"""Decoding with a cache on a whole real test set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attnbench.data.batching import build_evaluation_sampler, build_loader
from attnbench.data.tokenizer import BOS, EOS, PAD
from attnbench.models.decoding import beam_search
from attnbench.sweeps.plan import compose_run
from attnbench.tasks.build import build_task
from attnbench.tasks.translation import Translation


@pytest.mark.slow
def test_a_cache_changes_no_token_of_test_2016_flickr(real_data: Path, tmp_path: Path) -> None:
    overrides = ["experiment=transformer_multi30k", f"paths.data={real_data}", f"paths.cache={tmp_path}"]
    task, data = build_task(compose_run([*overrides, "model.depth=2", "model.d_model=64", "model.d_ff=64"]))
    assert isinstance(task, Translation)
    pairs = data.pairs["test"]
    assert len(pairs) == 1000
    for batch in build_loader(pairs, build_evaluation_sampler(pairs, 2048)):
        limits_B = torch.from_numpy(np.minimum(pairs.source_lengths_N[batch.indices_B.numpy()], 12))
        cached, uncached = (
            beam_search(
                task.eval().sequence_model, batch.source_BS, beam_size=5, max_lengths_B=limits_B, length_penalty=1.0,
                bos=BOS, eos=EOS, pad=PAD, use_cache=cached,
            )
            for cached in (True, False)
        )  # fmt: skip
        assert [h.tokens for h in cached] == [h.tokens for h in uncached]
