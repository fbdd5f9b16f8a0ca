"""From a config to what a count of its operations needs to know."""

from __future__ import annotations

from attnbench.config import Config
from attnbench.config.attention import Score
from attnbench.config.model import TransformerConfig
from attnbench.config.position import Position
from attnbench.config.recurrent import Attend, Cell, RecurrentConfig
from attnbench.metrics.flop_formulas import RecurrentSize, ScoreSize, Size, TransformerSize
from attnbench.nn.blocks import ACTIVATIONS

_GATES = {Cell.rnn: 1, Cell.gru: 3, Cell.lstm: 4}


def size_of(config: Config, target_vocab: int) -> Size:
    """The size of the sequence-to-sequence model that `config` describes."""
    model = config.model
    if isinstance(model, TransformerConfig):
        return TransformerSize(
            d_model=model.d_model,
            d_ff=model.d_ff,
            num_heads=model.num_heads,
            encoder_depth=model.depth,
            decoder_depth=model.decoder_depth or model.depth,
            target_vocab=target_vocab,
            gated=ACTIVATIONS[model.activation].gated,
            score=_score(config, model.head_widths[0]),
            d_k=model.d_k,
            d_v=model.d_v,
            distances=2 * config.position.max_distance + 1 if config.position.kind is Position.relative else 0,
        )
    if isinstance(model, RecurrentConfig):
        directions = 1 + model.bidirectional
        return RecurrentSize(
            gates=_GATES[model.cell],
            d_embedding=model.d_embedding,
            d_hidden=model.d_hidden,
            depth=model.depth,
            target_vocab=target_vocab,
            directions=directions,
            context=model.attend in (Attend.none, Attend.bahdanau),
            fed=model.input_feeding,
            attends=model.attend in (Attend.bahdanau, Attend.luong),
            attentional=model.attend is Attend.luong,
            score=_score(config, directions * model.d_hidden),
        )
    raise TypeError(f"model={model.family}: not a sequence-to-sequence model")


def _score(config: Config, d_k: int) -> ScoreSize:
    hidden = config.attention.hidden or d_k
    match config.attention.score:
        case Score.additive | Score.concat:
            return ScoreSize("additive", hidden)
        case Score.general:
            return ScoreSize("bilinear")
        case Score.uniform:
            return ScoreSize("none")
        case _:
            return ScoreSize("dot")
