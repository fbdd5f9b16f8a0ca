"""Recurrent encoder-decoders: Sutskever et al. 2014, Cho et al. 2014, Bahdanau et al. 2015, Luong et al. 2015."""

# Shapes: B batch, S source length, T target length, E d_embedding, H d_hidden, M width of the memory (H a direction),
#         V target vocabulary, L layers, J hypotheses of a sentence (in decoding), N = B x J

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnbench.config.attention import AttentionConfig
from attnbench.config.model import Init
from attnbench.config.recurrent import RecurrentConfig
from attnbench.models.encoder_decoder import EncoderDecoder, build_token_mask
from attnbench.models.recurrent_cells import RecurrentStack, initialize_cells
from attnbench.models.recurrent_decoder import (
    AttentiveDecoder,
    DecoderState,
    RecurrentMemory,
    StateBridge,
    concatenate_directions,
)
from attnbench.nn.dropout import Dropout
from attnbench.nn.gradient_buffer import buffer_gradients
from attnbench.nn.initialization import initialize_weights


class RecurrentOutput(NamedTuple):
    """Hidden states for `project`, and weights_LBHQK under "cross" if requested and if there is attention (L = H = 1).

    Weights of local-p attention sum to less than one, because a Gaussian multiplies them.
    """

    hidden: Tensor
    attention: dict[str, Tensor] | None


class Recurrent(EncoderDecoder):
    """Recurrent encoder-decoder, with or without attention.

    The output layer reads the top state (bahdanau, fixed, initial_state) or the attentional state (luong), which have
    equal widths. Bahdanau's maxout layer (appendix A.2.2) is left out, as in d2l.ai, chapter 11.4.
    """

    def __init__(
        self, model: RecurrentConfig, attention: AttentionConfig, *, source_vocab: int, target_vocab: int, pad: int = 0
    ) -> None:
        super().__init__(
            model.tie_embeddings, model.d_embedding, source_vocab=source_vocab, target_vocab=target_vocab, pad=pad
        )
        self.bptt, self.teacher_forcing = model.bptt, model.teacher_forcing
        # Gives embedded tokens unit variance, as torch's default initialization does.
        self.scale = 1.0 if model.init is Init.torch else model.d_embedding**0.5
        self.dropout = Dropout(model.dropout)
        self.encoder = RecurrentStack(model, model.d_embedding, model.bidirectional)
        d_memory = model.d_hidden * (2 if model.bidirectional else 1)
        self.handover = StateBridge(d_memory, model)
        self.decoder = AttentiveDecoder(d_memory, model, attention)
        self.output = self.build_output(model.d_hidden)
        initialize_weights(self, model.init)
        initialize_cells(self, model.init)

    @property
    def max_length(self) -> int | None:
        """None: targets may have any length."""
        return None

    def encode(self, source_BS: Tensor) -> tuple[RecurrentMemory, DecoderState]:
        """Encode the source, and return the decoder's state before the first target token."""
        x_BSE = self._embed(source_BS, self.source_embedding)
        lengths_B = (source_BS != self.pad).sum(1)
        real_BS = build_token_mask(source_BS, self.pad)
        # Packed sequences need their lengths on the CPU; a row of padding only has length 1.
        places_B = None if real_BS is None else lengths_B.cpu().clamp(min=1)
        if places_B is None or bool((places_B == source_BS.shape[1]).all()):
            hidden_BSM, finals = self.encoder(x_BSE, None, self.encoder.prepare_weights())
        else:
            packed, finals = self.encoder(
                pack_padded_sequence(x_BSE, places_B, batch_first=True, enforce_sorted=False),
                None,
                self.encoder.prepare_weights(),
            )
            hidden_BSM, _ = pad_packed_sequence(packed, batch_first=True, total_length=source_BS.shape[1])
        mask_B11S = None if real_BS is None else real_BS[:, None, None]
        hidden_B1SM = buffer_gradients(hidden_BSM.unsqueeze(1))
        memory = RecurrentMemory(
            hidden_B1SM,
            self.decoder.prepare_keys(hidden_B1SM),
            mask_B11S,
            lengths_B,
            concatenate_directions(finals[-1][0]),
        )
        return memory, self.decoder.build_initial_state(self.handover(finals))

    def forward(self, source_BS: Tensor, target_BT: Tensor, need_weights: bool = False) -> RecurrentOutput:
        """Compute hidden states.

        Args:
            source_BS: source tokens.
            target_BT: target tokens, BOS first.
            need_weights: also return the attention weights.

        Returns:
            hidden_BTH; position t predicts token t + 1.
        """
        memory, state = self.encode(source_BS)
        sampling = self.training and self.teacher_forcing < 1
        at_once = 1 if sampling else self.bptt or target_BT.shape[1]
        # One lookup for all steps, because the gradient of each lookup has the size of the whole table.
        pieces = torch.split(self.embed_target(target_BT), at_once, dim=1)
        hidden: list[Tensor] = []
        weights = []
        for number, x_BLE in enumerate(pieces):
            if self.bptt is not None and number and number * at_once % self.bptt == 0:
                state = state.detach()
            if sampling and number:
                x_BLE = self._sample_inputs(target_BT[:, number], hidden[-1])
            hidden_BLH, state, weights_B1LS = self.decoder(x_BLE, state, memory, need_weights)
            hidden.append(hidden_BLH)
            weights.append(weights_B1LS)
        attention = None
        if need_weights:
            attention = {"cross": torch.cat(weights, dim=2).unsqueeze(0)} if self.decoder.has_attention else {}
        return RecurrentOutput(torch.cat(hidden, dim=1), attention)

    def _sample_inputs(self, reference_B: Tensor, hidden_B1H: Tensor) -> Tensor:
        """Return x_B1E of reference tokens or, at random for each row, of the likeliest tokens.

        Source: Bengio et al. 2015, section 2.4.
        """
        with torch.no_grad():
            likeliest_B1 = self.project(hidden_B1H).argmax(-1)
        forced_B1 = torch.rand(likeliest_B1.shape, device=likeliest_B1.device) < self.teacher_forcing
        return self.embed_target(torch.where(forced_B1, reference_B.unsqueeze(1), likeliest_B1))

    def start_decoding(self, source_BS: Tensor) -> RecurrentDecoder:
        """Encode the source and return a decoder before the first target token, for models/decoding.py."""
        return RecurrentDecoder(self, source_BS)

    def embed_target(self, ids_BT: Tensor) -> Tensor:
        """Return x_BTE of target tokens."""
        return self._embed(ids_BT, self.target_embedding)

    def _embed(self, ids_BL: Tensor, embedding: nn.Embedding) -> Tensor:
        x_BLE: Tensor = self.dropout(embedding(ids_BL) * self.scale)
        return x_BLE


class RecurrentDecoder:
    """Decoder state during decoding.

    One row for each sentence of the source, one row for each hypothesis of the cells.
    """

    def __init__(self, model: Recurrent, source_BS: Tensor) -> None:
        self._model = model
        self._memory, self._state = model.encode(source_BS)

    def step(self, tokens_BJ: Tensor) -> Tensor:
        """Append one token to each hypothesis and return hidden_BJH."""
        x_N1E = self._model.embed_target(tokens_BJ.reshape(-1, 1))
        hidden_N1H, self._state, _ = self._model.decoder(x_N1E, self._state, self._memory)
        hidden_BJH: Tensor = hidden_N1H.view(*tokens_BJ.shape, -1)
        return hidden_BJH

    def select(self, rows_N: Tensor | None, sentences_B: Tensor | None) -> None:
        """Keep only these hypotheses (indices in B x J) and sentences; None: all.

        Args:
            rows_N: hypotheses to keep.
            sentences_B: sentences to keep.
        """
        if rows_N is not None:
            self._state = self._state.select(rows_N)
        if sentences_B is not None:
            self._memory = self._memory.select(sentences_B)
