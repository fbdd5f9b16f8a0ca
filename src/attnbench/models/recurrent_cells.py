"""Stacks of recurrent cells with torch.nn's parameters.

They run torch's kernels or, on a CPU, nn/recurrent_kernels.py.
"""

# Shapes: N rows, L steps, I width of a layer's input, H d_hidden, P directions of a layer, W = P x H, G gates x H,
#         R rows of all steps, step after step

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from attnbench.config.model import Init
from attnbench.config.recurrent import Cell, RecurrentConfig
from attnbench.nn.dropout import Dropout
from attnbench.nn.gradient_buffer import buffer_gradients, matmul_with_buffer
from attnbench.nn.initialization import NORMAL_STD
from attnbench.nn.recurrent_kernels import CellStep, GruStep, LstmStep, RnnStep, run_cells

CELLS: dict[Cell, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {
    Cell.rnn: nn.RNN,
    Cell.gru: nn.GRU,
    Cell.lstm: nn.LSTM,
}
_STEPS: dict[Cell, type[CellStep]] = {Cell.rnn: RnnStep, Cell.gru: GruStep, Cell.lstm: LstmStep}
LayerState = tuple[Tensor, ...]  # h_PNH, and of an LSTM c_PNH
SequenceInput = Tensor | PackedSequence  # x_NLI, or its packed tokens


class CellWeights(NamedTuple):
    """Weights of one direction of a layer, shared by all steps of a pass."""

    input_IG: Tensor
    hidden_HG: Tensor
    input_bias_G: Tensor
    hidden_bias_G: Tensor


class RecurrentStack(nn.Module):
    """Recurrent layers, each of which reads the states of the layer below, with dropout between them."""

    def __init__(self, model: RecurrentConfig, d_input: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.cell, self.bidirectional = model.cell, bidirectional
        width = model.d_hidden * (2 if bidirectional else 1)
        # One module per layer: cuDNN's dropout between layers has a random state that torch.manual_seed does not reset.
        self.layers = nn.ModuleList(
            CELLS[model.cell](width_in, model.d_hidden, batch_first=True, bidirectional=bidirectional)
            for width_in in [d_input] + [width] * (model.depth - 1)
        )
        self.dropout = Dropout(model.dropout)

    def prepare_weights(self) -> list[list[CellWeights]] | None:
        """Return the weights for `forward`, layer by layer, to be used in all calls of one pass.

        None: torch's kernels are used.
        """
        first_GI = self.layers[0].get_parameter("weight_ih_l0")
        if first_GI.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return None
        suffixes = ("", "_reverse") if self.bidirectional else ("",)
        return [[_get_cell_weights(layer, suffix) for suffix in suffixes] for layer in self.layers]

    def forward(
        self, x: SequenceInput, states: list[LayerState] | None = None, weights: list[list[CellWeights]] | None = None
    ) -> tuple[SequenceInput, list[LayerState]]:
        """Run all layers.

        Args:
            x: padded or packed inputs.
            states: initial state of each layer; None: zeros.
            weights: result of `prepare_weights`.

        Returns:
            States of the top layer, in the form of `x`, and the final state of each layer.
        """
        finals = []
        for number, layer in enumerate(self.layers):
            if number:
                x = _apply_dropout(x, self.dropout)
            state = states[number] if states is not None else ()
            if weights is None:
                x, final = layer(x, state if len(state) == 2 else state[0] if state else None)
            else:
                x, final = self._run_layer(x, state, weights[number])
            finals.append(final if isinstance(final, tuple) else (final,))
        return x, finals

    def _run_layer(
        self, x: SequenceInput, state: LayerState, directions: list[CellWeights]
    ) -> tuple[SequenceInput, LayerState]:
        """Run one layer."""
        if isinstance(x, PackedSequence):
            x_RI, sizes = x.data, x.batch_sizes.tolist()
        else:
            x_RI, sizes = x.transpose(0, 1).flatten(0, 1), [x.shape[0]] * x.shape[1]
        if not state:
            zero_PNH = x_RI.new_zeros(len(directions), sizes[0], len(directions[0].hidden_HG))
            state = (zero_PNH,) * (2 if self.cell is Cell.lstm else 1)
        tops, finals = [], []
        for number, (input_IG, hidden_HG, input_bias_G, hidden_bias_G) in enumerate(directions):
            x_RG = matmul_with_buffer(x_RI, input_IG, input_bias_G)
            first = [part_PNH[number] for part_PNH in state]
            top_RH, final = run_cells(
                _STEPS[self.cell], x_RG, sizes, first, hidden_HG, hidden_bias_G, is_reversed=number == 1
            )
            tops.append(top_RH)
            finals.append(final)
        top_RW = tops[0] if len(tops) == 1 else torch.cat(tops, dim=1)
        state = tuple(torch.stack(parts) for parts in zip(*finals, strict=True))
        if not isinstance(x, PackedSequence):
            return top_RW.view(len(sizes), sizes[0], top_RW.shape[1]).transpose(0, 1), state
        order = x.unsorted_indices
        return PackedSequence(top_RW, *x[1:]), tuple(
            part if order is None else part.index_select(1, order) for part in state
        )


def _get_cell_weights(layer: nn.Module, suffix: str) -> CellWeights:
    input_GI, hidden_GH, input_bias_G, hidden_bias_G = (
        layer.get_parameter(f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    return CellWeights(buffer_gradients(input_GI.t()), buffer_gradients(hidden_GH.t()), input_bias_G, hidden_bias_G)


def _apply_dropout(x: SequenceInput, dropout: Dropout) -> SequenceInput:
    return PackedSequence(dropout(x.data), *x[1:]) if isinstance(x, PackedSequence) else dropout(x)


@torch.no_grad()
def initialize_cells(module: nn.Module, init: Init) -> None:
    """Initialize all recurrent cells in `module`, each gate separately.

    xavier and scaled: input matrices Xavier uniform, recurrent matrices orthogonal, which preserves the norm of a
    state over time (Saxe et al. 2014, section 3). normal: both N(0, 0.02^2). Biases are zero in these three. torch:
    torch's defaults.

    Args:
        module: network that is changed in place.
        init: the scheme.
    """
    if init is Init.torch:
        return
    for layer in module.modules():
        if not isinstance(layer, nn.RNNBase):
            continue
        for name, parameter in layer.named_parameters():
            for gate in torch.split(parameter, layer.hidden_size):
                if name.startswith("bias"):
                    nn.init.zeros_(gate)
                elif init is Init.normal:
                    nn.init.normal_(gate, std=NORMAL_STD)
                elif name.startswith("weight_ih"):
                    nn.init.xavier_uniform_(gate)
                else:
                    nn.init.orthogonal_(gate)
