"""Benchmark of layer types (Vaswani et al. 2017, Table 1): how time and memory grow with sequence length."""

# Shapes: B batch, L length, D width of the layer

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from attnbench.benchmarks.attention import AttentionCase, explain_omission
from attnbench.benchmarks.device import SAMPLE_MS, describe_memory_method
from attnbench.benchmarks.measurement import BenchmarkCase, SuitePlan
from attnbench.benchmarks.results import DEFAULT_LENGTHS, Settings
from attnbench.benchmarks.size_curves import FIT_NOTE, SizeCurve
from attnbench.config.attention import AttentionConfig, Backend, Score
from attnbench.config.model import TransformerConfig
from attnbench.models.recurrent_cells import CELLS
from attnbench.nn.attention import MultiHeadAttention
from attnbench.nn.scoring import SCORES

_KERNEL_SIZE = 3
_UNIT = "tokens"
_SOURCES_NOTE = (
    "operations, sequential, path (longest between two places): Vaswani et al. 2017, Table 1, of length n, width d,"
    " h heads, kernels of k; path of a convolution: as section 4 has it for contiguous kernels. memory: of a training"
    " step; of fused attention: Dao et al. 2022, Theorem 1."
)
_MEMORY_NOTE = (
    "On a CPU, eager attention can grow faster than n^2 where its matrices leave the cache, and where glibc gets"
    " them from the system for every step (those over 32 MiB): the pages may cost nothing, or as much as all the rest."
)
_RESTRICTED_NOTE = (
    "Restricted self-attention, O(r n d) in the paper's table, has no row: the windows of this project's recurrent"
    " decoders mask scores of all places, and cost what eager attention costs."
)


@dataclass(frozen=True)
class LayerType:
    """Layer type: complexities from the paper's table, and how the layer is called."""

    operations: str
    sequential: str
    path: str
    apply: Callable[[nn.Module, Tensor], Tensor]  # computes y_BLD from a layer and x_BLD


ATTENTION = LayerType("O(n^2 d)", "O(1)", "O(1)", lambda layer, x_BLD: layer(x_BLD).context)
RECURRENT = LayerType("O(n d^2)", "O(n)", "O(n)", lambda layer, x_BLD: layer(x_BLD)[0])
CONVOLUTION = LayerType("O(k n d^2)", "O(1)", "O(n / k)", lambda layer, x_BLD: layer(x_BLD.mT).mT)


@dataclass(frozen=True)
class LayerCase:
    """Layer with the same input and output width."""

    name: str
    layer_type: LayerType
    build: Callable[[], nn.Module]
    num_held: int = 0  # numbers held at the peak for each pair of positions

    @cached_property
    def module(self) -> nn.Module:
        """The layer with random weights, shared by all lengths."""
        return self.build()

    @property
    def theory(self) -> dict[str, str]:
        """Theoretical complexities, by column."""
        memory = "O(h n^2)" if self.num_held else "O(n d)"
        kind = self.layer_type
        return {"operations": kind.operations, "memory": memory, "sequential": kind.sequential, "path": kind.path}

    def build_step(self, settings: Settings, length: int) -> Callable[[], object]:
        """Build the step to measure: forward pass, and gradients of input and weights, on random input.

        Args:
            settings: options of the command.
            length: sequence length.
        """
        shape = (settings.batch, length, settings.heads * settings.width)
        where = {"device": settings.device, "dtype": getattr(torch, settings.dtype)}
        x_BLD = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(**where).requires_grad_()
        module = self.module.to(**where)
        inputs = [x_BLD, *module.parameters()]

        def step() -> None:
            y_BLD = self.layer_type.apply(module, x_BLD)
            torch.autograd.grad(y_BLD, inputs, torch.ones_like(y_BLD))

        return step


def list_layers(settings: Settings) -> Iterator[LayerCase]:
    """Yield self-attention with every score (scaled_dot on both backends), recurrent layers and a convolution."""
    width, device = settings.heads * settings.width, torch.device(settings.device)
    model = TransformerConfig(d_model=width, num_heads=settings.heads)
    for score in SCORES:
        for backend in Backend if score is Score.scaled_dot else [Backend.auto]:
            config = AttentionConfig(score=score, backend=backend)
            case, build = AttentionCase(config), partial(MultiHeadAttention, model, config)
            yield LayerCase(
                case.format_name(device),
                ATTENTION,
                build,
                case.count_held_numbers(settings.heads, settings.width, device),
            )
    for cell, kind in CELLS.items():
        yield LayerCase(cell.name, RECURRENT, partial(kind, width, width, batch_first=True))
    yield LayerCase(
        f"convolution of {_KERNEL_SIZE}",
        CONVOLUTION,
        partial(nn.Conv1d, width, width, _KERNEL_SIZE, padding=_KERNEL_SIZE // 2),
    )


def plan_suite(settings: Settings) -> SuitePlan:
    """Plan the suite: every layer at all lengths, except those that need more than `max_gib`."""
    device = torch.device(settings.device)
    width = settings.heads * settings.width
    notes = [
        f"Layers of width {width} ({settings.heads} heads), batch {settings.batch}, forward and backward; no mask, no"
        f" dropout. Repeats: {settings.repeats}, each over {SAMPLE_MS} ms, or one call, of every length.",
        _SOURCES_NOTE,
        FIT_NOTE,
        f"crossing_{_UNIT}: the length n from which c n^2 outweighs b n, where a + b n + c n^2 is fitted to all"
        f" lengths: until then the projections' O(n d^2) hide attention's O(n^2 d). By multiplications alone it"
        f" would be 2 d: {2 * width}. None where there is no n or no n^2 in the fit.",
        _MEMORY_NOTE,
        f"peak_mib: tensors of forward and backward, above weights and input: {describe_memory_method(device)}.",
        _RESTRICTED_NOTE,
    ]
    subjects = []
    lengths = sorted(set(settings.lengths or DEFAULT_LENGTHS["growth"]))
    for layer in list_layers(settings):
        why = {length: explain_omission(layer.name, layer.num_held, length, settings) for length in lengths}
        notes += filter(None, why.values())
        fitting = [length for length in lengths if why[length] is None]
        step_of = partial(layer.build_step, settings)
        curve = SizeCurve(step_of, fitting, _UNIT, device, find_crossing=layer.layer_type is ATTENTION)
        subjects.append(BenchmarkCase("", layer.name, "", curve.measure_time, curve.measure_memory, layer.theory))
    return SuitePlan("", notes, subjects, settings.warmup)
