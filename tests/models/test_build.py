from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from attnbench.config import Config
from attnbench.config.model import (
    BlocksConfig,
    CnnConfig,
    MlpConfig,
    ModelConfig,
    NormType,
    ResNet18Config,
    TransformerConfig,
    VitConfig,
)
from attnbench.config.recurrent import RecurrentConfig
from attnbench.config.trainer import TrainerConfig
from attnbench.models.build import build_classifier, build_model
from attnbench.models.transformer import Transformer
from attnbench.records.identity import config_to_dict, uses_batch_norm


def test_builds_what_the_config_says() -> None:
    model = TransformerConfig(depth=1, decoder_depth=2, d_model=8, d_ff=8, num_heads=2)
    built = build_model(Config(model=model), source_vocab=11, target_vocab=11)
    assert isinstance(built, Transformer)
    assert (len(built.encoder), len(built.decoder), built.output_weight.shape) == (1, 2, (11, 8))


def test_refuses_what_is_no_translation_model() -> None:
    with pytest.raises(TypeError, match="model=none: not a sequence-to-sequence model"):
        build_model(Config(model=ModelConfig()), source_vocab=11, target_vocab=11)


@pytest.mark.parametrize("kind", NormType)
@pytest.mark.parametrize("model", [TransformerConfig, VitConfig, CnnConfig, ResNet18Config, MlpConfig, RecurrentConfig])
def test_a_config_knows_whether_its_model_has_batch_norm(model: type[ModelConfig], kind: NormType) -> None:
    """Identity hangs on it: with batch norm, results depend on how an update is divided."""
    config = Config(model=model(), trainer=TrainerConfig(max_steps=1))
    if isinstance(config.model, BlocksConfig):
        config.model.depth, config.model.d_model, config.model.d_ff, config.model.norm_type = 1, 16, 16, kind
    with torch.device("meta"):
        if isinstance(config.model, (TransformerConfig, RecurrentConfig)):
            network: Any = build_model(config, source_vocab=9, target_vocab=9)
        else:
            network = build_classifier(config, channels=1, image_size=28, classes=3)
    has = any(isinstance(module, _BatchNorm) for module in network.modules())
    assert config.model.uses_batch_norm is has
    assert uses_batch_norm(config_to_dict(config)) is has
