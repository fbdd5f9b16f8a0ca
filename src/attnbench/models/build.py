"""Builds the network that a config describes, with random weights."""

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
    """Protocol of networks that the translation task can train."""

    @property
    def output_weight(self) -> Tensor:
        """Weight of the output projection, weight_VD."""
        ...

    @property
    def output_bias(self) -> Tensor | None:
        """Bias of the output projection, bias_V, or None."""
        ...


class Classifier(Protocol):
    """Protocol of networks that the classification task can train."""

    def __call__(self, images_BCHW: Tensor, need_weights: bool = False) -> ClassifierOutput:
        """Return logits_BK and, if requested, attention weights."""
        ...


def build_model(config: Config, *, source_vocab: int, target_vocab: int, pad: int = 0) -> SequenceToSequence:
    """Build the sequence-to-sequence model that `config.model` describes.

    Args:
        config: the run's config.
        source_vocab: size of the source vocabulary.
        target_vocab: size of the target vocabulary.
        pad: index of the padding token.
    """
    model = config.model
    if isinstance(model, TransformerConfig):
        return Transformer(
            model, config.attention, config.position, source_vocab=source_vocab, target_vocab=target_vocab, pad=pad
        )
    if isinstance(model, RecurrentConfig):
        return Recurrent(model, config.attention, source_vocab=source_vocab, target_vocab=target_vocab, pad=pad)
    raise TypeError(f"model={model.family}: not a sequence-to-sequence model")


def build_classifier(config: Config, *, channels: int, image_size: int, classes: int) -> Classifier:
    """Build the image classifier that `config.model` describes.

    Args:
        config: the run's config.
        channels: channels of the images.
        image_size: side of the images in pixels.
        classes: number of classes.
    """
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
