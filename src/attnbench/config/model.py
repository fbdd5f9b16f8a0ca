"""Config of architectures, one dataclass per family; conf/model/ has presets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.fields import MAX_DEPTH, MAX_WIDTH, Fault, bounded_field

MAX_STAGES = 12  # convolutional networks: images have at most 4,096 pixels per side


class NormPlacement(Enum):
    """Placement of norms in a residual block (nn/blocks.py, `ResidualConnection`)."""

    post = "post"  # norm(x + f(x)): Vaswani et al. 2017
    pre = "pre"  # x + f(norm(x)), and a final norm on the stack: Xiong et al. 2020
    sandwich = "sandwich"  # x + norm(f(norm(x))), and a final norm: Ding et al. 2021, section 2.4
    deepnorm = "deepnorm"  # norm(alpha x + f(x)), f's first weights times beta: Wang et al. 2022, Figure 2


class NormType(Enum):
    """Kind of norm (nn/norms.py)."""

    layer = "layer"
    rms = "rms"
    batch = "batch"
    scale = "scale"
    none = "none"


class Activation(Enum):
    """Activation function of the feed-forward network; the last two are gated (Shazeer 2020)."""

    relu = "relu"
    gelu = "gelu"
    geglu = "geglu"
    swiglu = "swiglu"


class TiedEmbeddings(Enum):
    """Embedding matrices that share their weights."""

    none = "none"
    target = "target"  # target embedding and output projection
    all = "all"  # source and target embedding and output projection: one vocabulary


class Init(Enum):
    """Initialization of weights (nn/initialization.py)."""

    xavier = "xavier"  # Xavier uniform; q, k, v at gain 1/sqrt(2) (1 for deepnorm); embeddings N(0, 1/d_model)
    scaled = "scaled"  # xavier, and the last layer of each residual branch over sqrt(number of branches)
    normal = "normal"  # N(0, 0.02^2), recurrent cells and patches included: Radford et al. 2019
    torch = "torch"  # defaults of torch.nn


@dataclass
class ModelConfig:
    """Options of all architectures."""

    family: str = "none"  # names the dataclass in a record and a checkpoint
    init: Init = Init.xavier

    @property
    def uses_batch_norm(self) -> bool:
        """True if the model has batch norm, so that results depend on how an update is divided."""
        return False

    def smallest_feature_map(self, image_size: int) -> int | None:
        """Return the side of the smallest map of an image that batch norm sees; None: there is no such map."""
        return None


@dataclass
class BlocksConfig(ModelConfig):
    """Options of all models made of Transformer blocks."""

    depth: int = bounded_field(6, minimum=1, maximum=MAX_DEPTH)  # layers; of an encoder-decoder: of the encoder
    d_model: int = bounded_field(512, minimum=1, maximum=MAX_WIDTH)
    d_ff: int = bounded_field(2048, minimum=1, maximum=MAX_WIDTH)
    num_heads: int = bounded_field(8, minimum=1, maximum=MAX_WIDTH)
    d_k: int | None = bounded_field(
        None, minimum=1, maximum=MAX_WIDTH
    )  # of a head's queries and keys; null: d_model / num_heads
    d_v: int | None = bounded_field(None, minimum=1, maximum=MAX_WIDTH)  # of a head's values; null: d_model / num_heads
    dropout: float = bounded_field(0.1, minimum=0, less_than=1)  # on embeddings and each sublayer's output
    activation_dropout: float = bounded_field(0.0, minimum=0, less_than=1)  # inside the feed-forward network
    norm_placement: NormPlacement = NormPlacement.post
    norm_type: NormType = NormType.layer
    residual: bool = True  # false: f(x) alone, the ablation
    activation: Activation = Activation.relu

    @property
    def uses_batch_norm(self) -> bool:
        """True if the model has batch norm, so that results depend on how an update is divided."""
        return self.norm_type is NormType.batch

    @property
    def head_widths(self) -> tuple[int, int]:
        """d_k and d_v of each head."""
        share = self.d_model // self.num_heads
        return self.d_k or share, self.d_v or share

    def find_faults(self) -> Iterator[Fault]:
        """Check that the width can be divided among the heads."""
        if self.d_model % self.num_heads and None in (self.d_k, self.d_v):
            yield Fault(
                "num_heads",
                f"{self.num_heads}",
                f"expected a divisor of model.d_model={self.d_model}, or model.d_k and model.d_v to be set",
            )


@dataclass
class TransformerConfig(BlocksConfig):
    """Encoder-decoder Transformer (Vaswani et al. 2017)."""

    family: str = "transformer"
    decoder_depth: int | None = bounded_field(None, minimum=1, maximum=MAX_DEPTH)  # null: as deep as the encoder
    tie_embeddings: TiedEmbeddings = TiedEmbeddings.all


class Pool(Enum):
    """Vector that a vision Transformer classifies."""

    cls = "cls"  # a class token: Dosovitskiy et al. 2021
    mean = "mean"  # the mean over patches


@dataclass
class VitConfig(BlocksConfig):
    """Vision Transformer (Dosovitskiy et al. 2021)."""

    family: str = "vit"
    patch_size: int = bounded_field(4, minimum=1)  # side of a patch in pixels
    pool: Pool = Pool.cls


@dataclass
class ResNet18Config(ModelConfig):
    """ResNet-18 (He et al. 2016, Table 1) from torchvision, with a first layer for the data's channels."""

    family: str = "resnet18"
    init: Init = Init.torch

    @property
    def uses_batch_norm(self) -> bool:
        """True: results depend on how an update is divided."""
        return True

    def smallest_feature_map(self, image_size: int) -> int:
        """Return the side of the smallest map of an image: five layers halve it, rounded up."""
        return math.ceil(image_size / 32)


@dataclass
class CnnConfig(ModelConfig):
    """Small residual network (He et al. 2016, section 4.2).

    It has one stage per width, and `blocks` blocks of two layers per stage.
    """

    family: str = "cnn"
    init: Init = Init.torch
    widths: list[int] = field(default_factory=lambda: [16, 32, 64])
    blocks: int = bounded_field(2, minimum=1, maximum=MAX_DEPTH)

    def smallest_feature_map(self, image_size: int) -> int:
        """Return the side of the smallest map of an image: each stage but the first halves it, rounded up."""
        return math.ceil(image_size / (1 << (len(self.widths) - 1)))

    @property
    def uses_batch_norm(self) -> bool:
        """True: results depend on how an update is divided."""
        return True

    def find_faults(self) -> Iterator[Fault]:
        """Check the widths of the stages."""
        if not self.widths or min(self.widths) < 1 or max(self.widths) > MAX_WIDTH:
            expected = f"expected numbers of channels, at least 1 and at most {MAX_WIDTH}, one a stage"
            yield Fault("widths", f"{self.widths}", expected)
        elif len(self.widths) > MAX_STAGES:
            expected = f"expected at most {MAX_STAGES} stages: each halves the side of a picture"
            yield Fault("widths", f"{self.widths}", expected)


@dataclass
class MlpConfig(ModelConfig):
    """Multilayer perceptron on pixels."""

    family: str = "mlp"
    depth: int = bounded_field(2, minimum=0, maximum=MAX_DEPTH)  # hidden layers; 0: a linear model, softmax regression
    d_hidden: int = bounded_field(512, minimum=1, maximum=MAX_WIDTH)
    dropout: float = bounded_field(0.1, minimum=0, less_than=1)  # on each hidden layer
