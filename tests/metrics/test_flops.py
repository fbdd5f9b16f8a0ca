from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnbench.config.attention import AttentionConfig, Backend, Score
from attnbench.config.model import Activation, TransformerConfig
from attnbench.config.position import PositionConfig
from attnbench.metrics.flops import TransformerSize, forward_flops, mfu, peak_flops, training_flops
from attnbench.models.transformer import Transformer

B, S, T, V = 3, 7, 5, 50


def size(**options: Any) -> TransformerSize:
    shape = {"d_model": 16, "d_ff": 24, "num_heads": 4, "encoder_depth": 2, "decoder_depth": 3, "target_vocab": V}
    return TransformerSize(**(shape | options))


KINDS: dict[Score, Any] = {Score.additive: "additive", Score.concat: "additive", Score.general: "bilinear",
                           Score.uniform: "none"}  # fmt: skip


def counted(activation: Activation, score: Score, backend: Backend) -> tuple[int, int]:
    """What PyTorch counts of forward, and of forward and backward."""
    model = Transformer(
        TransformerConfig(
            depth=2, decoder_depth=3, d_model=16, d_ff=24, num_heads=4, dropout=0.0, activation=activation
        ),
        AttentionConfig(score=score, hidden=6, backend=backend),
        PositionConfig(),
        source_vocab=V,
        target_vocab=V,
    )
    source, target = torch.randint(1, V, (B, S)), torch.randint(1, V, (B, T))
    with FlopCounterMode(display=False) as counter:
        logits = model.project(model(source, target).hidden)
        forward = counter.get_total_flops()
        logits.sum().backward()
    return forward, counter.get_total_flops()


@pytest.mark.parametrize("score", Score)
@pytest.mark.parametrize("activation", Activation)
def test_the_hand_count_is_torchs(activation: Activation, score: Score) -> None:
    mine = size(
        gated=activation in (Activation.geglu, Activation.swiglu),
        score=KINDS.get(score, "dot"),
        score_hidden=6,
    )
    forward, both = counted(activation, score, Backend.explicit)
    assert forward_flops(mine, B, S, T) == forward
    # The gradient through v.tanh is an outer product, which is done element by element: torch does not count it.
    outer = 2 * 6 * 4 * B * (2 * S * S + 3 * T * T + 3 * T * S) if mine.score == "additive" else 0
    assert training_flops(mine, B, S, T) == both + outer


def test_forward_through_the_fused_kernel_counts_alike() -> None:
    assert forward_flops(size(), B, S, T) == counted(Activation.relu, Score.scaled_dot, Backend.auto)[0]


def test_the_base_model_is_about_six_per_parameter_and_token() -> None:
    """Kaplan et al. 2020, equation 2.2, for sentences short against the width."""
    base = size(d_model=512, d_ff=2048, num_heads=8, encoder_depth=6, decoder_depth=6, target_vocab=37000)
    encoder, decoder = 6 * (4 * 512**2 + 2 * 512 * 2048), 6 * (8 * 512**2 + 2 * 512 * 2048) + 37000 * 512
    assert training_flops(base, 1, 25, 25) == pytest.approx(6 * 25 * (encoder + decoder), rel=0.02)


@pytest.mark.parametrize(
    ("device", "precision", "teraflops"),
    [
        ("NVIDIA H200", "bf16-mixed", 989.5),
        ("NVIDIA H100 80GB HBM3", "bf16_mixed", 989.5),
        ("NVIDIA H100 PCIe", "16-mixed", 756.5),
        ("NVIDIA H200", "32-true", 67),
        ("NVIDIA A100-SXM4-80GB", "bf16-true", 312),
        ("NVIDIA A100 80GB PCIe", "fp32", 19.5),
        ("Tesla V100-SXM2-16GB", "fp16_mixed", 125),
        ("NVIDIA GeForce RTX 4090", "bf16-mixed", 165.2),
        ("Tesla V100-SXM2-16GB", "bf16-mixed", None),
        ("NVIDIA H200", "64-true", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16-mixed", None),
        ("NVIDIA A10G", "bf16-mixed", None),
        ("NVIDIA H200 MIG 1g.18gb", "bf16-mixed", None),
        ("cpu", "32-true", None),
    ],
)
def test_peak(device: str, precision: str, teraflops: float | None) -> None:
    found = peak_flops(device, precision)
    assert found == (None if teraflops is None else pytest.approx(teraflops * 1e12))


def test_mfu() -> None:
    assert mfu(2e12, 8e12) == 0.25
    assert mfu(None, 8e12) is None
    assert mfu(2e12, None) is None
    with pytest.raises(ValueError, match="MFU of 150%"):
        mfu(12e12, 8e12)
