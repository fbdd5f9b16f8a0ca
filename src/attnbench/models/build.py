"""From a config to its network, with random weights."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from attnbench.config import Config
from attnbench.config.model import CnnConfig, MlpConfig, ResNet18Config, TransformerConfig, VitConfig
from attnbench.config.recurrent import RecurrentConfig
from attnbench.models.baselines import Cnn, Mlp, ResNet18
from attnbench.models.classifier import ClassifierOutput
from attnbench.models.decoding import Decodable
from attnbench.models.recurrent import Recurrent
from attnbench.models.transformer import Transformer
from attnbench.models.vit import VisionTransformer


class SequenceToSequence(Decodable, Protocol):
    """A network, beside being an nn.Module, that the translation task can train."""

    @property
    def output_weight(self) -> Tensor:
        """The output projection weight_VD."""
        ...

    @property
    def output_bias(self) -> Tensor | None:
        """Its bias_V, if it has one."""
        ...


class Classifier(Protocol):
    """A network, beside being an nn.Module, that the classification task can train."""

    def __call__(self, images_BCHW: Tensor, need_weights: bool = False) -> ClassifierOutput:
        """logits_BK, and the attention that led to them if asked for."""
        ...


def build_model(config: Config, *, source_vocab: int, target_vocab: int, pad: int = 0) -> SequenceToSequence:
    """The sequence-to-sequence model that `config.model` describes."""
    model = config.model
    if isinstance(model, TransformerConfig):
        return Transformer(
            model, config.attention, config.position, source_vocab=source_vocab, target_vocab=target_vocab, pad=pad
        )
    if isinstance(model, RecurrentConfig):
        return Recurrent(model, config.attention, source_vocab=source_vocab, target_vocab=target_vocab, pad=pad)
    raise TypeError(f"model={model.family}: not a sequence-to-sequence model")


def build_classifier(config: Config, *, channels: int, image_size: int, classes: int) -> Classifier:
    """The classifier of pictures that `config.model` describes."""
    model, sizes = config.model, {"channels": channels, "image_size": image_size, "classes": classes}
    if isinstance(model, VitConfig):
        return VisionTransformer(model, config.attention, config.position, **sizes)
    if isinstance(model, ResNet18Config):
        return ResNet18(model, **sizes)
    if isinstance(model, CnnConfig):
        return Cnn(model, **sizes)
    if isinstance(model, MlpConfig):
        return Mlp(model, **sizes)
    raise TypeError(f"model={model.family}: not a classifier of pictures")
