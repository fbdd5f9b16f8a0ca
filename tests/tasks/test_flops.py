"""FLOPs of whole models, counted as a run counts them, against formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from attnbench.config.attention import Score
from attnbench.config.model import Activation
from attnbench.config.position import Position
from attnbench.config.recurrent import Cell
from attnbench.metrics.flop_counter import UncountableError, count_training_flops
from attnbench.models.build import build_model
from attnbench.sweeps.plan import compose_run

S, T, V = 7, 5, 50
D, F, H, HIDDEN = 16, 24, 4, 6  # widths of the Transformer, heads, and width of the hidden layer of a score
E, R = 6, 8  # widths of the recurrent model: embedding, hidden state
TRANSFORMER = [
    "model=toy", f"model.d_model={D}", f"model.d_ff={F}", f"model.num_heads={H}", "model.depth=2",
    "model.decoder_depth=3", f"attention.d_hidden={HIDDEN}", "data.joint_vocabulary=true",
]  # fmt: skip
RECURRENT = [
    f"model.d_embedding={E}", f"model.d_hidden={R}", "model.depth=2", "model.tie_embeddings=none",
    f"attention.d_hidden={HIDDEN}", "model.bidirectional=false", "model.bridge=copy",
]  # fmt: skip


def count(overrides: list[str], device: str = "cpu") -> float:
    """Count the FLOPs of forward and backward of a model."""
    with torch.device(device):
        model: Any = build_model(compose_run(overrides), source_vocab=V, target_vocab=V)
    source, target = (torch.ones(1, length, dtype=torch.long, device=device) for length in (S, T))
    return count_training_flops(lambda: model.project(model(source, target).hidden))


def score_flops(score: Score, queries: int, keys: int, width: int, heads: int) -> int:
    """Compute the FLOPs of a score, forward and backward, by formula."""
    if score in (Score.additive, Score.concat):
        return 3 * heads * 2 * ((queries + keys) * width * HIDDEN + queries * keys * HIDDEN)
    bilinear = 2 * queries * width * width if score is Score.general else 0
    return 3 * heads * (bilinear + 2 * queries * keys * width)


def transformer_flops(score: Score = Score.scaled_dot, gated: bool = False, distances: int = 0) -> int:
    """Compute the FLOPs of the Transformer, forward and backward, by formula."""
    d = D // H

    def attention(queries: int, keys: int, distances: int = 0) -> int:
        of_distances = 3 * 2 * queries * distances * 2 * d * H
        return score_flops(score, queries, keys, d, H) + 3 * 2 * queries * keys * D + of_distances

    projection, feed_forward = 3 * 2 * D * D, 3 * 2 * D * F * (3 if gated else 2)
    encoder = S * (4 * projection + feed_forward) + attention(S, S, distances)
    decoder = T * (6 * projection + feed_forward) + S * 2 * projection + attention(T, T, distances) + attention(T, S)
    return 2 * encoder + 3 * decoder + 3 * 2 * T * D * V


FORMULAS = [Score.scaled_dot, Score.dot, Score.general, Score.additive, Score.concat, Score.cosine]


def count_if_possible(overrides: list[str], device: str) -> float:
    """Count FLOPs; NaN if an operator has no count."""
    try:
        return count(overrides, device)
    except UncountableError:
        return math.nan


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("score", FORMULAS)
def test_a_transformer_with_each_score_has_the_flops_of_the_formula(score: Score, device: str) -> None:
    assert count([*TRANSFORMER, f"attention.score={score.name}"], device) == transformer_flops(score)


@pytest.mark.parametrize("activation", [Activation.relu, Activation.gelu, Activation.geglu, Activation.swiglu])
def test_a_gated_activation_has_a_third_matrix(activation: Activation) -> None:
    gated = activation in (Activation.geglu, Activation.swiglu)
    assert count([*TRANSFORMER, f"model.activation={activation.name}"]) == transformer_flops(gated=gated)


@pytest.mark.parametrize("position", Position)
def test_only_relative_positions_multiply_matrices(position: Position) -> None:
    distances = 33 if position is Position.relative else 0
    assert count([*TRANSFORMER, f"position={position.name}"]) == transformer_flops(distances=distances)


@pytest.mark.parametrize("score", Score)
@pytest.mark.parametrize("model", ["toy", "luong"])
def test_cpu_and_meta_device_agree_for_each_score(model: str, score: Score) -> None:
    overrides = [f"model={model}", f"attention.score={score.name}", "data.joint_vocabulary=true"]
    found, on_meta = (count_if_possible(overrides, device) for device in ("cpu", "meta"))
    # A CPU also computes the gradient of the initial state of the cells, which nothing uses.
    assert on_meta == pytest.approx(found, rel=0.02 if model == "luong" else 0, nan_ok=True)


@pytest.mark.parametrize("cell", Cell)
@pytest.mark.parametrize("model", ["rnn", "bahdanau", "luong"])
def test_a_recurrent_model_has_the_flops_of_the_formula(model: str, cell: Cell) -> None:
    gates = {Cell.rnn: 1, Cell.gru: 3, Cell.lstm: 4}[cell]

    def stack(width: int) -> int:
        return 3 * 2 * gates * R * (width + R + R + R)

    expected = S * stack(E) + T * stack(E + R) + 3 * 2 * T * R * V  # the cells read a context of width R
    if model == "bahdanau":
        expected += score_flops(Score.additive, T, S, R, 1) + 3 * 2 * T * S * R
    if model == "luong":
        expected += score_flops(Score.general, T, S, R, 1) + 3 * 2 * T * S * R + T * 3 * 2 * 2 * R * R
    score = {"bahdanau": "additive", "luong": "general"}.get(model, "dot")
    assert count([f"model={model}", f"model.cell={cell.name}", f"attention.score={score}", *RECURRENT]) == expected


def test_the_base_model_is_about_six_per_parameter_and_token() -> None:
    """Kaplan et al. 2020, equation 2.2, for sentences short against the width."""
    encoder, decoder = 6 * (4 * 512**2 + 2 * 512 * 2048), 6 * (8 * 512**2 + 2 * 512 * 2048)
    config = compose_run(["model=base", "model.tie_embeddings=none"])
    with torch.device("meta"):
        model: Any = build_model(config, source_vocab=V, target_vocab=37000)
    source = torch.ones(1, 25, dtype=torch.long, device="meta")
    found = count_training_flops(lambda: model.project(model(source, source).hidden))
    assert found == pytest.approx(6 * 25 * (encoder + decoder + 37000 * 512), rel=0.02)
