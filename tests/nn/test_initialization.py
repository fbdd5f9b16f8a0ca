from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import BlocksConfig, Init
from attnbench.nn.attention import MultiHeadAttention
from attnbench.nn.initialization import initialize_weights
from attnbench.nn.projections import PackedLinear

D = 64


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(BlocksConfig(d_model=D, num_heads=4), AttentionConfig())
        self.other_attention = MultiHeadAttention(BlocksConfig(d_model=D, num_heads=4), AttentionConfig())
        self.gated = PackedLinear(D, [32, 32], gains=(1.0, 1.0))
        self.linear = nn.Linear(D, 100)
        self.embedding = nn.Embedding(500, D, padding_idx=3)
        self.tied = nn.Linear(D, 500, bias=False)
        self.tied.weight = self.embedding.weight
        self.norm = nn.LayerNorm(D)


def parts(init: Init) -> Parts:
    torch.manual_seed(0)
    module = Parts()
    initialize_weights(module, init)
    return module


def is_uniform(weight: torch.Tensor, bound: float) -> bool:
    return bool(0.97 * bound < weight.abs().max() <= bound) and abs(weight.std() / (bound / math.sqrt(3)) - 1) < 0.05


def test_xavier() -> None:
    module = parts(Init.xavier)
    for part in module.attention.qkv.weight.chunk(3):
        assert is_uniform(part, math.sqrt(6 / (D + D)) / math.sqrt(2))
    for part in module.gated.weight.chunk(2):
        assert is_uniform(part, math.sqrt(6 / (D + 32)))
    assert is_uniform(module.attention.output_projection.weight, math.sqrt(6 / (D + D)))
    assert is_uniform(module.linear.weight, math.sqrt(6 / (D + 100)))
    assert module.embedding.weight.std().item() == pytest.approx(D**-0.5, rel=0.02)
    assert (module.embedding.weight.abs() > 0.3).any()  # normal, not uniform


def test_scaled_is_xavier_with_weaker_branches() -> None:
    scaled, xavier = parts(Init.scaled).state_dict(), parts(Init.xavier).state_dict()
    for name, weight in scaled.items():  # with two branches
        factor = 2**-0.5 if name.endswith("attention.output_projection.weight") else 1.0
        torch.testing.assert_close(weight, xavier[name] * factor)


def test_normal() -> None:
    module = parts(Init.normal)
    for weight in (module.attention.qkv.weight, module.gated.weight, module.linear.weight, module.embedding.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("init", [Init.xavier, Init.scaled, Init.normal])
def test_biases_norms_and_padding(init: Init) -> None:
    module = parts(init)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
    assert (module.norm.weight == 1).all()
    assert (module.embedding.weight[3] == 0).all()
    assert module.tied.weight is module.embedding.weight


def test_torch_leaves_all_as_it_was() -> None:
    torch.manual_seed(0)
    untouched = Parts().state_dict()
    for name, value in parts(Init.torch).state_dict().items():
        assert value.equal(untouched[name]), name
