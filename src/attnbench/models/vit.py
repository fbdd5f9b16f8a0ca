"""Vision Transformer of Dosovitskiy et al. 2021."""

# Shapes: B batch, C channels, P patches, T tokens (patches, and before them the classifying one), D d_model,
#         K classes, L layers, H heads

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import Init, NormType, Pool, VitConfig
from attnbench.config.position import PositionConfig
from attnbench.models.classifier import ClassifierOutput
from attnbench.nn.blocks import EncoderLayer, build_final_norm
from attnbench.nn.dropout import Dropout
from attnbench.nn.initialization import NORMAL_STD, initialize_weights
from attnbench.nn.positions import POSITIONS, RelativePosition, TokenLayout, build_position


class VisionTransformer(nn.Module):
    """Vision Transformer: classifies an image from a sequence of patches (section 3.1 and appendix B).

    The classifying token has no position encoding: its own vector is learned, and a sum of two learned vectors is
    one.
    """

    def __init__(
        self,
        model: VitConfig,
        attention: AttentionConfig,
        position: PositionConfig,
        *,
        channels: int,
        image_size: int,
        classes: int,
    ) -> None:
        super().__init__()
        side, rest = divmod(image_size, model.patch_size)
        if rest:
            raise ValueError(f"model.patch_size={model.patch_size}: expected a divisor of data.image_size={image_size}")
        self.grid = (side, side)
        self.patches = nn.Conv2d(channels, model.d_model, model.patch_size, stride=model.patch_size)
        self.cls_D = nn.Parameter(torch.zeros(model.d_model)) if model.pool is Pool.cls else None
        self.position = build_position(model.d_model, position, self.grid)
        self.dropout = Dropout(model.dropout)
        layout = TokenLayout(self.grid, num_leading=0 if self.cls_D is None else 1)
        self.encoder = nn.ModuleList(EncoderLayer(model, attention, position, layout) for _ in range(model.depth))
        self.norm = build_final_norm(model)
        # Only these tokens of the last layer are used, so the others are not computed.
        alone = model.norm_type is not NormType.batch and not issubclass(POSITIONS[position.kind], RelativePosition)
        self.read = 1 if model.pool is Pool.cls and alone else None  # number of first tokens; None: all
        self.head = nn.Linear(model.d_model, classes)
        initialize_weights(self, model.init)
        if model.init is Init.normal:
            nn.init.normal_(self.patches.weight, std=NORMAL_STD)
            nn.init.zeros_(self.patches.get_parameter("bias"))

    def forward(self, images_BCHW: Tensor, need_weights: bool = False) -> ClassifierOutput:
        """Return logits_BK and, if requested, weights_LBHTT under "encoder".

        Args:
            images_BCHW: normalized images.
            need_weights: also return attention weights.
        """
        x_BPD = self.position(self.patches(images_BCHW).flatten(2).transpose(1, 2))
        x_BTD = x_BPD if self.cls_D is None else torch.cat((self.cls_D.expand(len(x_BPD), 1, -1), x_BPD), dim=1)
        x_BTD = self.dropout(x_BTD)
        weights = []
        for number, layer in enumerate(self.encoder, 1):
            read = self.read if number == len(self.encoder) and not need_weights else None
            x_BTD, weights_BHTT = layer(x_BTD, None, need_weights, read)
            weights.append(weights_BHTT)
        x_BTD = self.norm(x_BTD)
        pooled_BD = x_BTD.mean(1) if self.cls_D is None else x_BTD[:, 0]
        return ClassifierOutput(self.head(pooled_BD), {"encoder": torch.stack(weights)} if need_weights else None)
