"""Encoder-decoder Transformer of Vaswani et al. 2017."""

# Shapes: B batch, S source length, T target length, D d_model, V target vocabulary, L layers, H heads,
#         J hypotheses of a sentence (in decoding), N = B x J

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import TransformerConfig
from attnbench.config.position import PositionConfig
from attnbench.models.encoder_decoder import EncoderDecoder, build_token_mask
from attnbench.nn.attention import KeyValue
from attnbench.nn.blocks import DecoderLayer, EncoderLayer, build_final_norm
from attnbench.nn.dropout import Dropout
from attnbench.nn.initialization import initialize_weights
from attnbench.nn.positions import PositionalEncoding, build_position


class EncodedSource(NamedTuple):
    """Encoded source, its token mask (None: no padding), and the encoder's weights (None unless requested)."""

    hidden_BSD: Tensor
    token_mask_BS: Tensor | None
    weights_LBHSS: Tensor | None


class TransformerOutput(NamedTuple):
    """Hidden states for `project`, and weights_LBHQK under "encoder", "decoder" and "cross" (None unless requested)."""

    hidden: Tensor
    attention: dict[str, Tensor] | None


class Transformer(EncoderDecoder):
    """Encoder-decoder Transformer (Vaswani et al. 2017, sections 3.1 to 3.4)."""

    def __init__(
        self,
        model: TransformerConfig,
        attention: AttentionConfig,
        position: PositionConfig,
        *,
        source_vocab: int,
        target_vocab: int,
        pad: int = 0,
    ) -> None:
        super().__init__(
            model.tie_embeddings, model.d_model, source_vocab=source_vocab, target_vocab=target_vocab, pad=pad
        )
        self.d_model = model.d_model
        self.source_position = build_position(model.d_model, position)
        self.target_position = build_position(model.d_model, position)
        self.dropout = Dropout(model.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(model, attention, position) for _ in range(model.depth))
        decoder_depth = model.decoder_depth or model.depth
        self.decoder = nn.ModuleList(DecoderLayer(model, attention, position) for _ in range(decoder_depth))
        self.encoder_norm = build_final_norm(model)
        self.decoder_norm = build_final_norm(model)
        self.output = self.build_output(model.d_model)
        initialize_weights(self, model.init)

    @property
    def max_length(self) -> int | None:
        """Length of the longest target that has positions, BOS included; None: no limit."""
        return self.target_position.max_length

    def encode(self, source_BS: Tensor, need_weights: bool = False) -> EncodedSource:
        """Encode the source.

        Args:
            source_BS: token ids.
            need_weights: also return attention weights.
        """
        real_BS = build_token_mask(source_BS, self.pad)
        x_BSD = self._embed(source_BS, self.source_embedding, self.source_position)
        weights = []
        for layer in self.encoder:
            x_BSD, weights_BHSS = layer(x_BSD, real_BS, need_weights)
            weights.append(weights_BHSS)
        return EncodedSource(self.encoder_norm(x_BSD, real_BS), real_BS, torch.stack(weights) if need_weights else None)

    def forward(self, source_BS: Tensor, target_BT: Tensor, need_weights: bool = False) -> TransformerOutput:
        """Compute hidden states.

        Args:
            source_BS: source tokens.
            target_BT: target tokens, BOS first.
            need_weights: also return the attention weights.

        Returns:
            hidden_BTD; position t predicts token t + 1.
        """
        memory = self.encode(source_BS, need_weights)
        real_BT = build_token_mask(target_BT, self.pad)
        x_BTD = self.embed_target(target_BT)
        own, cross = [], []
        for layer in self.decoder:
            x_BTD, weights_BHTT, weights_BHTS = layer(
                x_BTD, memory.hidden_BSD, memory.token_mask_BS, real_BT, need_weights
            )
            own.append(weights_BHTT)
            cross.append(weights_BHTS)
        attention = None
        if memory.weights_LBHSS is not None:
            attention = {"encoder": memory.weights_LBHSS, "decoder": torch.stack(own), "cross": torch.stack(cross)}
        return TransformerOutput(self.decoder_norm(x_BTD, real_BT), attention)

    def start_decoding(self, source_BS: Tensor) -> TransformerDecoder:
        """Encode the source and return a decoder before the first target token, for models/decoding.py."""
        return TransformerDecoder(self, source_BS)

    def embed_target(self, ids_BT: Tensor, offset: int = 0) -> Tensor:
        """Return x_BTD of target tokens at positions offset, offset + 1, ...

        Args:
            ids_BT: token ids.
            offset: position of the first token.
        """
        return self._embed(ids_BT, self.target_embedding, self.target_position, offset)

    def _embed(self, ids_BL: Tensor, embedding: nn.Embedding, position: PositionalEncoding, offset: int = 0) -> Tensor:
        x_BLD: Tensor = self.dropout(position(embedding(ids_BL) * math.sqrt(self.d_model), offset))
        return x_BLD


class TransformerDecoder:
    """Decoder state during decoding.

    Cached keys and values of the source (by sentence) and of the prefix (by hypothesis).
    """

    def __init__(self, model: Transformer, source_BS: Tensor) -> None:
        self._model = model
        self._layers = cast("list[DecoderLayer]", list(model.decoder))
        hidden_BSD, self._real_BS, _ = model.encode(source_BS)
        self._memories = [layer.cross_attention.project_memory(hidden_BSD) for layer in self._layers]
        self._pasts: list[KeyValue | None] = [None] * len(self._layers)
        self._length = 0

    def step(self, tokens_BJ: Tensor) -> Tensor:
        """Append one token to each hypothesis and return hidden_BJD."""
        x_N1D = self._model.embed_target(tokens_BJ.reshape(-1, 1), self._length)
        x_BJD = x_N1D.view(*tokens_BJ.shape, -1)
        for number, layer in enumerate(self._layers):
            x_BJD, self._pasts[number] = layer.decode_step(
                x_BJD, self._pasts[number], self._memories[number], self._real_BS
            )
        self._length += 1
        hidden_BJD: Tensor = self._model.decoder_norm(x_BJD)
        return hidden_BJD

    def select(self, rows_N: Tensor | None, sentences_B: Tensor | None) -> None:
        """Keep only these hypotheses (indices in B x J) and sentences; None: all.

        Args:
            rows_N: hypotheses to keep.
            sentences_B: sentences to keep.
        """
        if rows_N is not None:
            self._pasts = [past and past.select(rows_N) for past in self._pasts]
        if sentences_B is not None:
            self._memories = [memory.select(sentences_B) for memory in self._memories]
            if self._real_BS is not None:
                self._real_BS = self._real_BS.index_select(0, sentences_B)
