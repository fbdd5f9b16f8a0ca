"""What is forgotten and computed again: the same gradients, to the last bit, from less memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig, Normalizer
from attnbench.config.model import TransformerConfig, VitConfig
from attnbench.config.position import Position, PositionConfig
from attnbench.models.transformer import Transformer
from attnbench.models.vit import VisionTransformer
from attnbench.nn.activation_checkpointing import apply_activation_checkpointing

SIZES: dict[str, Any] = {"depth": 2, "d_model": 16, "d_ff": 32, "num_heads": 2, "dropout": 0.3}


def transformer(normalizer: Normalizer) -> nn.Module:
    model = TransformerConfig(family="transformer", **SIZES)
    attention = AttentionConfig(normalizer=normalizer)
    return Transformer(model, attention, PositionConfig(), source_vocab=20, target_vocab=20)


def vit(normalizer: Normalizer) -> nn.Module:
    model = VitConfig(family="vit", patch_size=4, **SIZES)
    position = PositionConfig(kind=Position.learned)
    return VisionTransformer(
        model, AttentionConfig(normalizer=normalizer), position, channels=1, image_size=8, classes=3
    )


def kept_and_gradients(network: nn.Module, *inputs: Tensor) -> tuple[int, list[Tensor]]:
    """Bytes that the forward pass keeps for the backward one, and what that one finds."""
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(*inputs)
    first: Tensor = output.hidden if hasattr(output, "hidden") else output.logits
    first.double().pow(2).mean().backward()
    return kept, [p.grad for p in network.parameters() if p.grad is not None]


@pytest.mark.parametrize("normalizer", [kind for kind in Normalizer if kind is not Normalizer.reinforce])
@pytest.mark.parametrize("build", [transformer, vit])
def test_gradients_are_the_same_and_less_is_kept(build: Any, normalizer: Normalizer) -> None:
    torch.manual_seed(0)
    network = build(normalizer)
    again = copy.deepcopy(network)
    assert apply_activation_checkpointing(again) == (4 if build is transformer else 2)
    if build is transformer:
        inputs = [torch.randint(1, 20, (3, 9)), torch.randint(1, 20, (3, 7))]
    else:
        inputs = [torch.rand(3, 1, 8, 8)]
    kept, expected = kept_and_gradients(network, *inputs)
    less, found = kept_and_gradients(again, *inputs)
    assert less < kept / 3
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert again.state_dict().keys() == network.state_dict().keys()
