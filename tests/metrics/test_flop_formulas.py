from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnbench.config import Config
from attnbench.config.attention import AttentionConfig, Backend, Score
from attnbench.config.model import Activation, TransformerConfig
from attnbench.config.position import Position, PositionConfig
from attnbench.config.recurrent import Bridge, Cell, DecoderContext, RecurrentConfig
from attnbench.metrics.flop_formulas import RecurrentSize, ScoreSize, TransformerSize, count_training_flops
from attnbench.models.recurrent import Recurrent
from attnbench.models.transformer import Transformer
from attnbench.sweeps.plan import compose_run
from attnbench.tasks.flop_estimation import build_model_size

B, S, T, V = 3, 7, 5, 50


def size(**options: Any) -> TransformerSize:
    shape = {"d_model": 16, "d_ff": 24, "num_heads": 4, "encoder_depth": 2, "decoder_depth": 3, "target_vocab": V}
    return TransformerSize(**(shape | options))


KINDS: dict[Score, Any] = {Score.additive: "additive", Score.concat: "additive", Score.general: "bilinear",
                           Score.uniform: "none"}  # fmt: skip


def counted(
    activation: Activation = Activation.relu,
    score: Score = Score.scaled_dot,
    backend: Backend = Backend.eager,
    position: Position = Position.sinusoidal,
    **widths: int,
) -> tuple[int, int]:
    """What PyTorch counts of forward, and of forward and backward."""
    shape = {"depth": 2, "decoder_depth": 3, "d_model": 16, "d_ff": 24, "num_heads": 4, "dropout": 0.0}
    model = Transformer(
        TransformerConfig(activation=activation, **(shape | widths)),
        AttentionConfig(score=score, d_hidden=6, backend=backend),
        PositionConfig(kind=position),
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
        is_gated=activation in (Activation.geglu, Activation.swiglu),
        score=ScoreSize(KINDS.get(score, "dot"), 6),
    )
    forward, both = counted(activation, score)
    assert B * mine.count_forward_flops(S, T) == forward
    assert B * count_training_flops(mine, S, T) == both


def test_forward_through_the_fused_kernel_counts_alike() -> None:
    assert B * size().count_forward_flops(S, T) == counted(backend=Backend.auto)[0]


@pytest.mark.parametrize("position", Position)
def test_the_hand_count_is_torchs_for_every_position_and_any_width_of_heads(position: Position) -> None:
    mine = size(d_k=6, d_v=10, num_distances=33 if position is Position.relative else 0)
    assert B * mine.count_forward_flops(S, T) == counted(position=position, d_k=6, d_v=10)[0]


def test_the_base_model_is_about_six_per_parameter_and_token() -> None:
    """Kaplan et al. 2020, equation 2.2, for sentences short against the width."""
    base = size(d_model=512, d_ff=2048, num_heads=8, encoder_depth=6, decoder_depth=6, target_vocab=37000)
    encoder, decoder = 6 * (4 * 512**2 + 2 * 512 * 2048), 6 * (8 * 512**2 + 2 * 512 * 2048) + 37000 * 512
    assert count_training_flops(base, 25, 25) == pytest.approx(6 * 25 * (encoder + decoder), rel=0.02)


@pytest.fixture(scope="module")
def joint() -> Config:
    return compose_run(["data.joint_vocabulary=true"])


@pytest.mark.parametrize("score", [Score.scaled_dot, Score.general, Score.uniform, Score.concat])
@pytest.mark.parametrize(
    ("attend", "options"),
    [
        (DecoderContext.initial_state, {}), (DecoderContext.fixed, {}), (DecoderContext.bahdanau, {}),
        (DecoderContext.luong, {}),
        (DecoderContext.luong, {"input_feeding": True}),
        (DecoderContext.fixed, {"bridge": Bridge.linear, "bidirectional": True}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cell", Cell)
@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # of torch, when oneDNN is switched
def test_a_recurrent_hand_count_is_torchs(
    joint: Config, cell: Cell, attend: DecoderContext, options: dict[str, Any], score: Score
) -> None:
    config = replace(joint)
    config.model = RecurrentConfig(
        cell=cell, depth=2, d_embedding=6, d_hidden=8, dropout=0.0, decoder_context=attend, **options
    )
    config.attention = AttentionConfig(score=score, d_hidden=5, backend=Backend.eager)
    mine = build_model_size(config, V)
    assert isinstance(mine, RecurrentSize)
    model = Recurrent(config.model, config.attention, source_vocab=V, target_vocab=V)
    model.requires_grad_(False)  # torch's counter cannot follow parameters that a module is called with
    source, target = torch.randint(1, V, (1, S)), torch.randint(1, V, (1, T))
    # oneDNN's LSTM is one operation, in which torch counts nothing.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        model.project(model(source, target).hidden)
    bridge = 2 * 2 * 16 * 8 * (1 + (cell is Cell.lstm)) if options.get("bridge") else 0
    assert counter.get_total_flops() == mine.count_forward_flops(S, T) + bridge
