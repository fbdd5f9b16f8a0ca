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
from attnbench.models.encoder_decoder import EncoderDecoder, real_tokens
from attnbench.models.recurrent_cells import Stack, initialise_cells
from attnbench.models.recurrent_decoder import (
    AttentiveDecoder,
    Handover,
    Memory,
    State,
    side_by_side,
)
from attnbench.nn.dropout import Dropout
from attnbench.nn.gradient_buffer import share
from attnbench.nn.initialization import initialise


class RecurrentOutput(NamedTuple):
    """Hidden states for `project`, and, if asked for, weights_LBHQK under "cross" where there is attention (L = H = 1).

    Weights of local-p attention sum to less than one, by the Gaussian that multiplies them.
    """

    hidden: Tensor
    attention: dict[str, Tensor] | None


class Recurrent(EncoderDecoder):
    """Cells that read the source, and cells that write the target.

    The output layer reads the top state (bahdanau, none, initial) or the attentional state (luong), as wide as each
    other, through no further layer: Bahdanau's maxout (appendix A.2.2) is left out, as in d2l.ai, chapter 11.4.
    """

    def __init__(
        self, model: RecurrentConfig, attention: AttentionConfig, *, source_vocab: int, target_vocab: int, pad: int = 0
    ) -> None:
        super().__init__(model.tie, model.d_embedding, source_vocab=source_vocab, target_vocab=target_vocab, pad=pad)
        self.bptt, self.teacher_forcing = model.bptt, model.teacher_forcing
        # So that embedded tokens start at unit variance, which torch's own do by themselves.
        self.scale = 1.0 if model.init is Init.torch else model.d_embedding**0.5
        self.dropout = Dropout(model.dropout)
        self.encoder = Stack(model, model.d_embedding, model.bidirectional)
        d_memory = model.d_hidden * (2 if model.bidirectional else 1)
        self.handover = Handover(d_memory, model)
        self.decoder = AttentiveDecoder(d_memory, model, attention)
        self.output = self.build_output(model.d_hidden)
        initialise(self, model.init)
        initialise_cells(self, model.init)

    @property
    def max_length(self) -> int | None:
        """A target may have any length."""
        return None

    def encode(self, source_BS: Tensor) -> tuple[Memory, State]:
        """Read the source, and stand before the first target token."""
        x_BSE = self._embed(source_BS, self.source_embedding)
        lengths_B = (source_BS != self.pad).sum(1)
        # A packed sequence wants its lengths on the CPU; a row of nothing but padding counts as one place.
        places_B = lengths_B.cpu().clamp(min=1)
        if bool((places_B == source_BS.shape[1]).all()):
            hidden_BSM, finals = self.encoder(x_BSE, None, self.encoder.weights())
        else:
            packed, finals = self.encoder(
                pack_padded_sequence(x_BSE, places_B, batch_first=True, enforce_sorted=False),
                None,
                self.encoder.weights(),
            )
            hidden_BSM, _ = pad_packed_sequence(packed, batch_first=True, total_length=source_BS.shape[1])
        real_BS = real_tokens(source_BS, self.pad)
        mask_B11S = None if real_BS is None else real_BS[:, None, None]
        hidden_B1SM = share(hidden_BSM.unsqueeze(1))
        memory = Memory(
            hidden_B1SM, self.decoder.prepare(hidden_B1SM), mask_B11S, lengths_B, side_by_side(finals[-1][0])
        )
        return memory, self.decoder.start(self.handover(finals))

    def forward(self, source_BS: Tensor, target_BT: Tensor, need_weights: bool = False) -> RecurrentOutput:
        """hidden_BTH, from which place t of target_BT (BOS first) predicts place t + 1."""
        memory, state = self.encode(source_BS)
        sampling = self.training and self.teacher_forcing < 1
        at_once = 1 if sampling else self.bptt or target_BT.shape[1]
        # Embedded once: the gradient of each look-up is as large as the whole table.
        pieces = torch.split(self.embed_target(target_BT), at_once, dim=1)
        hidden: list[Tensor] = []
        weights = []
        for number, x_BLE in enumerate(pieces):
            if self.bptt is not None and number and number * at_once % self.bptt == 0:
                state = state.detach()
            if sampling and number:
                x_BLE = self._sample(target_BT[:, number], hidden[-1])
            hidden_BLH, state, weights_B1LS = self.decoder(x_BLE, state, memory, need_weights)
            hidden.append(hidden_BLH)
            weights.append(weights_B1LS)
        attention = None
        if need_weights:
            attention = {"cross": torch.cat(weights, dim=2).unsqueeze(0)} if self.decoder.attends else {}
        return RecurrentOutput(torch.cat(hidden, dim=1), attention)

    def _sample(self, reference_B: Tensor, hidden_B1H: Tensor) -> Tensor:
        """x_B1E of the reference's tokens or, drawn for each row, the likeliest: Bengio et al. 2015, section 2.4."""
        with torch.no_grad():
            likeliest_B1 = self.project(hidden_B1H).argmax(-1)
        forced_B1 = torch.rand(likeliest_B1.shape, device=likeliest_B1.device) < self.teacher_forcing
        return self.embed_target(torch.where(forced_B1, reference_B.unsqueeze(1), likeliest_B1))

    def start(self, source_BS: Tensor) -> RecurrentDecoder:
        """Read the source and stand before the first target token: models/decoding.py goes on from there."""
        return RecurrentDecoder(self, source_BS)

    def embed_target(self, ids_BT: Tensor) -> Tensor:
        """x_BTE of target tokens."""
        return self._embed(ids_BT, self.target_embedding)

    def _embed(self, ids_BL: Tensor, embedding: nn.Embedding) -> Tensor:
        x_BLE: Tensor = self.dropout(embedding(ids_BL) * self.scale)
        return x_BLE


class RecurrentDecoder:
    """A decoding under way: the source a row a sentence, the states of the cells a row each N."""

    def __init__(self, model: Recurrent, source_BS: Tensor) -> None:
        self._model = model
        self._memory, self._state = model.encode(source_BS)

    def step(self, tokens_BJ: Tensor) -> Tensor:
        """hidden_BJH after one more token of each hypothesis."""
        x_N1E = self._model.embed_target(tokens_BJ.reshape(-1, 1))
        hidden_N1H, self._state, _ = self._model.decoder(x_N1E, self._state, self._memory)
        hidden_BJH: Tensor = hidden_N1H.view(*tokens_BJ.shape, -1)
        return hidden_BJH

    def select(self, rows_N: Tensor | None, sentences_B: Tensor | None) -> None:
        """Go on with these hypotheses (numbers in B x J) and these sentences; None: with all of them."""
        if rows_N is not None:
            self._state = self._state.select(rows_N)
        if sentences_B is not None:
            self._memory = self._memory.select(sentences_B)
