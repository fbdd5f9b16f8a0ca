"""Build the model size that the FLOP count needs from a config."""

from __future__ import annotations

from attnbench.config import Config
from attnbench.config.model import BlocksConfig, TransformerConfig
from attnbench.config.position import Position
from attnbench.config.recurrent import Cell, DecoderContext, RecurrentConfig
from attnbench.metrics.flop_formulas import ModelSize, RecurrentSize, ScoreSize, TransformerSize
from attnbench.nn.blocks import ACTIVATIONS
from attnbench.nn.scoring import SCORES

_NUM_GATES = {Cell.rnn: 1, Cell.gru: 3, Cell.lstm: 4}


def build_model_size(config: Config, target_vocab: int) -> ModelSize:
    """Build the size of the sequence-to-sequence model of a config; see also `find_unknown_cost`.

    Args:
        config: config of the run.
        target_vocab: size of the target vocabulary.
    """
    model = config.model
    if isinstance(model, TransformerConfig):
        return TransformerSize(
            d_model=model.d_model,
            d_ff=model.d_ff,
            num_heads=model.num_heads,
            encoder_depth=model.depth,
            decoder_depth=model.decoder_depth or model.depth,
            target_vocab=target_vocab,
            is_gated=ACTIVATIONS[model.activation].is_gated,
            score=_build_score_size(config, model.head_widths[0]),
            d_k=model.d_k,
            d_v=model.d_v,
            num_distances=2 * config.position.max_distance + 1 if config.position.kind is Position.relative else 0,
        )
    if isinstance(model, RecurrentConfig):
        directions = 1 + model.bidirectional
        return RecurrentSize(
            num_gates=_NUM_GATES[model.cell],
            d_embedding=model.d_embedding,
            d_hidden=model.d_hidden,
            depth=model.depth,
            target_vocab=target_vocab,
            num_directions=directions,
            reads_context=model.decoder_context in (DecoderContext.fixed, DecoderContext.bahdanau),
            has_input_feeding=model.input_feeding,
            has_attention=model.decoder_context in (DecoderContext.bahdanau, DecoderContext.luong),
            has_attentional_layer=model.decoder_context is DecoderContext.luong,
            score=_build_score_size(config, directions * model.d_hidden),
        )
    raise TypeError(f"model={model.family}: not a sequence-to-sequence model")


def find_unknown_cost(config: Config) -> str | None:
    """Return a sentence if no formula gives the FLOPs of the config's scoring function, else None."""
    model = config.model
    attends = isinstance(model, BlocksConfig) or (
        isinstance(model, RecurrentConfig) and model.decoder_context in (DecoderContext.bahdanau, DecoderContext.luong)
    )
    if not attends or (config.attention.target is None and SCORES[config.attention.score].cost is not None):
        return None
    return f"unknown: attention.score={config.attention.target or config.attention.score.name} has no formula"


def _build_score_size(config: Config, d_k: int) -> ScoreSize:
    """Return the size of the score; any size if the model has no attention."""
    cost = SCORES[config.attention.score].cost or "none"
    return ScoreSize(cost, (config.attention.d_hidden or d_k) if cost == "additive" else 0)
