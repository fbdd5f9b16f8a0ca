"""Decoder of recurrent models: state bridge, attention to the source, and the cells that read the target."""

# Shapes: B batch, S source length, L target steps read at once, E d_embedding, H d_hidden, M width of the memory,
#         J hypotheses of a sentence (in decoding; else one), N = B x J, Q = J x L queries of a sentence,
#         P directions of a layer, I width of a stack's input

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attnbench.config.attention import AttentionConfig
from attnbench.config.recurrent import Bridge, Cell, DecoderContext, RecurrentConfig, Window
from attnbench.models.recurrent_cells import CellWeights, LayerState, RecurrentStack
from attnbench.nn.attention import Attention, AttentionOutput
from attnbench.nn.autocast import disable_autocast, to_at_least_float32
from attnbench.nn.dropout import Dropout
from attnbench.nn.gradient_buffer import buffer_gradients


class RecurrentMemory(NamedTuple):
    """Encoded source, one row for each sentence."""

    hidden_B1SM: Tensor  # zero at padding
    keys_B1SA: Tensor | None  # keys prepared for the score; None: no attention
    mask_B11S: Tensor | None  # True at tokens, False at padding; None: no padding
    lengths_B: Tensor
    final_BM: Tensor  # the top layer's last state, of both directions

    def select(self, sentences_B: Tensor) -> RecurrentMemory:
        """Return the given sentences, in the given order."""
        mask_B11S = None if self.mask_B11S is None else self.mask_B11S.index_select(0, sentences_B)
        hidden_B1SM, lengths_B, final_BM = (
            tensor.index_select(0, sentences_B) for tensor in (self.hidden_B1SM, self.lengths_B, self.final_BM)
        )
        keys_B1SA = None if self.keys_B1SA is None else self.keys_B1SA.index_select(0, sentences_B)
        return RecurrentMemory(hidden_B1SM, keys_B1SA, mask_B11S, lengths_B, final_BM)


class DecoderState(NamedTuple):
    """State of the decoder, one row for each hypothesis."""

    layers: list[LayerState]
    attentional_N1H: Tensor | None  # attentional state of the previous step, with input feeding
    position: int  # number of target tokens read so far

    def select(self, rows_N: Tensor) -> DecoderState:
        """Return the given rows, in the given order."""
        layers = [tuple(tensor.index_select(1, rows_N) for tensor in layer) for layer in self.layers]
        return DecoderState(
            layers,
            None if self.attentional_N1H is None else self.attentional_N1H.index_select(0, rows_N),
            self.position,
        )

    def detach(self) -> DecoderState:
        """Return the state without gradients to earlier steps."""
        layers = [tuple(tensor.detach() for tensor in layer) for layer in self.layers]
        return DecoderState(
            layers, None if self.attentional_N1H is None else self.attentional_N1H.detach(), self.position
        )


class StateBridge(nn.Module):
    """Bridge from the encoder's final states to the decoder's initial states, layer by layer.

    `Bridge` names the kinds.
    """

    def __init__(self, d_memory: int, model: RecurrentConfig) -> None:
        super().__init__()
        self.bridge, self.d_hidden = model.bridge, model.d_hidden
        if model.bridge is Bridge.linear:
            states = 2 if model.cell is Cell.lstm else 1
            self.maps = nn.ModuleList(
                nn.Linear(d_memory, model.d_hidden, bias=False) for _ in range(states * model.depth)
            )

    def forward(self, finals: list[LayerState]) -> list[LayerState]:
        """Return h_1BH (and c_1BH) of each layer from the final states h_PBH (and c_PBH) of the encoder."""
        number = itertools.count()
        return [
            tuple(self._compute_initial_state(concatenate_directions(final_PBH), next(number)) for final_PBH in layer)
            for layer in finals
        ]

    def _compute_initial_state(self, final_BM: Tensor, number: int) -> Tensor:
        if self.bridge is Bridge.zero:
            return final_BM.new_zeros(1, len(final_BM), self.d_hidden)
        first_BH = torch.tanh(self.maps[number](final_BM)) if self.bridge is Bridge.linear else final_BM
        return first_BH.unsqueeze(0)


def concatenate_directions(state_PBH: Tensor) -> Tensor:
    """Return state_BM, with the directions of a sentence concatenated."""
    return state_PBH.transpose(0, 1).flatten(1)


class SourceAttention(nn.Module):
    """Attention of decoder states to the source: to all tokens, or to a window (Luong et al. 2015, section 3.2).

    A window reaches `window_size` tokens to both sides and ends with the sentence; a query whose window lies entirely
    behind the sentence gets zeros. Positions count from zero.
    """

    def __init__(self, d_memory: int, model: RecurrentConfig, attention: AttentionConfig) -> None:
        super().__init__()
        self.attention = Attention(model.d_hidden, d_memory, attention)
        self.window, self.window_size = model.window, model.window_size
        if model.window is Window.local_p:
            self.place_hidden = nn.Linear(model.d_hidden, model.d_hidden, bias=False)
            self.place = nn.Linear(model.d_hidden, 1, bias=False)

    def forward(
        self, queries_BQH: Tensor, positions_Q: Tensor, memory: RecurrentMemory, need_weights: bool = False
    ) -> AttentionOutput:
        """Compute attention to the source.

        Args:
            queries_BQH: decoder states.
            positions_Q: target positions of the queries, or one position for all.
            memory: encoded source.
            need_weights: also return the weights.

        Returns:
            context_B1QM and weights_B1QS (or None).
        """
        assert memory.keys_B1SA is not None
        mask, emphasis = memory.mask_B11S, None
        if self.window is not Window.all:
            offset_B1QS = self._compute_offsets(queries_BQH, positions_Q, memory)
            near_B1QS = offset_B1QS.abs() <= self.window_size
            mask = near_B1QS if mask is None else mask & near_B1QS
            if self.window is Window.local_p:
                # Equation 10: the Gaussian multiplies the weights, which then sum to less than one.
                emphasis = torch.exp(-2 * (offset_B1QS / self.window_size).square())
        found: AttentionOutput = self.attention(
            queries_BQH.unsqueeze(1),
            memory.keys_B1SA,
            memory.hidden_B1SM,
            mask=mask,
            weight_scale=emphasis,
            need_weights=need_weights,
        )
        return found

    def _compute_offsets(self, queries_BQH: Tensor, positions_Q: Tensor, memory: RecurrentMemory) -> Tensor:
        """Compute the distance of each source position from the window's center.

        It is the target position or equation 9's.
        """
        source_S = torch.arange(memory.hidden_B1SM.shape[2], device=positions_Q.device)
        if self.window is Window.local_m:
            return source_S - positions_Q[:, None]
        # At least float32: in bfloat16, positions of a sentence of 200 tokens are up to half a token off.
        with disable_autocast(queries_BQH.device.type):
            share_BQ1: Tensor = self.place(torch.tanh(self.place_hidden(to_at_least_float32(queries_BQH)))).sigmoid()
        place_BQ1 = memory.lengths_B[:, None, None] * share_BQ1
        return (source_S - place_BQ1).unsqueeze(1)


class RecurrentDecoderOutput(NamedTuple):
    """Hidden states to predict from, the decoder's next state, and weights_B1QS (None unless requested)."""

    hidden_NLH: Tensor
    state: DecoderState
    weights_B1QS: Tensor | None


class AttentiveDecoder(nn.Module):
    """Cells that read the target, and the context of the source that they get."""

    def __init__(self, d_memory: int, model: RecurrentConfig, attention: AttentionConfig) -> None:
        super().__init__()
        self.attend, self.input_feeding = model.decoder_context, model.input_feeding
        beside = {
            DecoderContext.fixed: d_memory,
            DecoderContext.bahdanau: d_memory,
            DecoderContext.luong: model.input_feeding * model.d_hidden,
        }
        self.cells = RecurrentStack(model, model.d_embedding + beside.get(model.decoder_context, 0))
        self.dropout = Dropout(model.dropout)
        if self.has_attention:
            self.source_attention = SourceAttention(d_memory, model, attention)
        if model.decoder_context is DecoderContext.luong:
            self.combine = nn.Linear(d_memory + model.d_hidden, model.d_hidden, bias=False)

    @property
    def has_attention(self) -> bool:
        """True if the decoder has attention."""
        return self.attend in (DecoderContext.bahdanau, DecoderContext.luong)

    @property
    def is_stepwise(self) -> bool:
        """True if a step needs the attention result of the step before, so that `forward` runs step by step."""
        return self.attend is DecoderContext.bahdanau or self.input_feeding

    def prepare_keys(self, hidden_B1SM: Tensor) -> Tensor | None:
        """Return keys_B1SA of the encoded source, computed once for all steps."""
        return (
            buffer_gradients(self.source_attention.attention.score.prepare_keys(hidden_B1SM))
            if self.has_attention
            else None
        )

    def build_initial_state(self, layers: list[LayerState]) -> DecoderState:
        """Return the state before the first token, with the given cell states and a zero attentional state."""
        h_1NH = layers[-1][0]
        return DecoderState(layers, torch.zeros_like(h_1NH).transpose(0, 1) if self.input_feeding else None, 0)

    def forward(
        self, x_NLE: Tensor, state: DecoderState, memory: RecurrentMemory, need_weights: bool = False
    ) -> RecurrentDecoderOutput:
        """Run the decoder over L embedded target tokens of each hypothesis.

        Args:
            x_NLE: embedded tokens.
            state: state before them.
            memory: encoded source.
            need_weights: also return the attention weights.
        """
        weights = self.cells.prepare_weights()
        outputs: list[RecurrentDecoderOutput] = []
        for x_NCE in torch.split(x_NLE, 1 if self.is_stepwise else x_NLE.shape[1], dim=1):
            outputs.append(self._run_steps(x_NCE, state, memory, weights, need_weights))
            state = outputs[-1].state
        looked = [output.weights_B1QS for output in outputs if output.weights_B1QS is not None]
        return RecurrentDecoderOutput(
            torch.cat([output.hidden_NLH for output in outputs], dim=1),
            state,
            torch.cat(looked, dim=2) if looked else None,
        )

    def _run_steps(
        self,
        x_NLE: Tensor,
        state: DecoderState,
        memory: RecurrentMemory,
        weights: list[list[CellWeights]] | None,
        need_weights: bool,
    ) -> RecurrentDecoderOutput:
        inputs, looked = [x_NLE], AttentionOutput(x_NLE, None)
        rows, steps, _ = x_NLE.shape
        if self.attend is DecoderContext.fixed:
            final_BJLM = memory.final_BM[:, None, None].expand(-1, rows // len(memory.final_BM), steps, -1)
            inputs.append(final_BJLM.flatten(0, 1))
        elif self.attend is DecoderContext.bahdanau:
            looked = self._attend_to_source(state.layers[-1][0].transpose(0, 1), state.position, memory, need_weights)
            inputs.append(looked.context)
        elif state.attentional_N1H is not None:
            inputs.append(state.attentional_N1H)
        hidden_NLH, layers = self.cells(torch.cat(inputs, dim=-1), state.layers, weights)
        if self.attend is DecoderContext.luong:
            looked = self._attend_to_source(hidden_NLH, state.position, memory, need_weights)
            # Equation 5: the attentional state.
            hidden_NLH = torch.tanh(self.combine(torch.cat((looked.context, hidden_NLH), dim=-1)))
        after = DecoderState(layers, hidden_NLH if self.input_feeding else None, state.position + steps)
        return RecurrentDecoderOutput(self.dropout(hidden_NLH), after, looked.weights)

    def _attend_to_source(
        self, queries_NLH: Tensor, position: int, memory: RecurrentMemory, need_weights: bool
    ) -> AttentionOutput:
        """Return context_NLM and weights_B1QS (or None) of queries at `position` and the positions after it."""
        rows, steps, width = queries_NLH.shape
        places_L = torch.arange(position, position + steps, device=queries_NLH.device)
        queries_BQH = queries_NLH.reshape(len(memory.hidden_B1SM), -1, width)
        found: AttentionOutput = self.source_attention(queries_BQH, places_L, memory, need_weights)
        return AttentionOutput(found.context.reshape(rows, steps, -1), found.weights)
