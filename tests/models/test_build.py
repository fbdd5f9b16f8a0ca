from __future__ import annotations

import pytest

from attnbench.config import Config
from attnbench.config.model import ModelConfig, TransformerConfig
from attnbench.models.build import build_model
from attnbench.models.transformer import Transformer


def test_builds_what_the_config_says() -> None:
    model = TransformerConfig(depth=1, decoder_depth=2, d_model=8, d_ff=8, num_heads=2)
    built = build_model(Config(model=model), source_vocab=11, target_vocab=11)
    assert isinstance(built, Transformer)
    assert (len(built.encoder), len(built.decoder), built.output_weight.shape) == (1, 2, (11, 8))


def test_refuses_what_is_no_translation_model() -> None:
    with pytest.raises(TypeError, match="model=none: not a sequence-to-sequence model"):
        build_model(Config(model=ModelConfig()), source_vocab=11, target_vocab=11)
