"""The table of layer types (Vaswani et al. 2017, Table 1), measured: how time and memory grow with sequence length."""

# Shapes: B batch, L length, D width of the layer

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from attnbench.benchmarks.attention import Case, left_out
from attnbench.benchmarks.device import SAMPLE_MS, memory_method
from attnbench.benchmarks.measurement import Plan, Subject
from attnbench.benchmarks.results import LENGTHS, Settings
from attnbench.benchmarks.size_curves import FIT, Curve
from attnbench.config.attention import AttentionConfig, Backend, Score
from attnbench.config.model import TransformerConfig
from attnbench.models.recurrent_cells import CELLS
from attnbench.nn.attention import MultiHeadAttention
from attnbench.nn.scoring import SCORES

_KERNEL = 3
_UNIT = "tokens"
_SOURCES = (
    "operations, sequential, path (longest between two places): Vaswani et al. 2017, Table 1, of length n, width d,"
    " h heads, kernels of k; path of a convolution: as section 4 has it for contiguous kernels. memory: of a training"
    " step; of fused attention: Dao et al. 2022, Theorem 1."
)
_PAGES = (
    "On a CPU, eager attention can grow faster than n^2 where its matrices leave the cache, and where glibc gets"
    " them from the system for every step (those over 32 MiB): the pages may cost nothing, or as much as all the rest."
)
_RESTRICTED = (
    "Restricted self-attention, O(r n d) in the paper's table, has no row: the windows of this project's recurrent"
    " decoders mask scores of all places, and cost what eager attention costs."
)


@dataclass(frozen=True)
class Kind:
    """What a row of the paper's table says."""

    operations: str
    sequential: str
    path: str
    call: Callable[[nn.Module, Tensor], Tensor]  # y_BLD of a layer and x_BLD


ATTENTION = Kind("O(n^2 d)", "O(1)", "O(1)", lambda layer, x_BLD: layer(x_BLD).context)
RECURRENT = Kind("O(n d^2)", "O(n)", "O(n)", lambda layer, x_BLD: layer(x_BLD)[0])
CONVOLUTION = Kind("O(k n d^2)", "O(1)", "O(n / k)", lambda layer, x_BLD: layer(x_BLD.mT).mT)


@dataclass(frozen=True)
class Layer:
    """A layer as wide as its input."""

    name: str
    kind: Kind
    build: Callable[[], nn.Module]
    held: int = 0  # numbers at its worst for each pair of places of a sequence

    @cached_property
    def module(self) -> nn.Module:
        """The layer, with random weights: one for all lengths."""
        return self.build()

    @property
    def texts(self) -> dict[str, str]:
        """What theory says."""
        memory = "O(h n^2)" if self.held else "O(n d)"
        kind = self.kind
        return {"operations": kind.operations, "memory": memory, "sequential": kind.sequential, "path": kind.path}

    def step_of(self, settings: Settings, length: int) -> Callable[[], object]:
        """Forward, and the gradients of input and weights, on random input of this length."""
        shape = (settings.batch, length, settings.heads * settings.width)
        where = {"device": settings.device, "dtype": getattr(torch, settings.dtype)}
        x_BLD = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(**where).requires_grad_()
        module = self.module.to(**where)
        inputs = [x_BLD, *module.parameters()]

        def step() -> None:
            y_BLD = self.kind.call(module, x_BLD)
            torch.autograd.grad(y_BLD, inputs, torch.ones_like(y_BLD))

        return step


def layers(settings: Settings) -> Iterator[Layer]:
    """Self-attention by every score, fused where it can be, and by both paths of scaled_dot; the others."""
    width, device = settings.heads * settings.width, torch.device(settings.device)
    model = TransformerConfig(d_model=width, num_heads=settings.heads)
    for score in SCORES:
        for backend in Backend if score is Score.scaled_dot else [Backend.auto]:
            config = AttentionConfig(score=score, backend=backend)
            case, build = Case(config), partial(MultiHeadAttention, model, config)
            yield Layer(case.name(device), ATTENTION, build, case.held(settings.heads, settings.width, device))
    for cell, kind in CELLS.items():
        yield Layer(cell.name, RECURRENT, partial(kind, width, width, batch_first=True))
    yield Layer(
        f"convolution of {_KERNEL}", CONVOLUTION, partial(nn.Conv1d, width, width, _KERNEL, padding=_KERNEL // 2)
    )


def plan(settings: Settings) -> Plan:
    """Every layer at all lengths, but for those at which it would hold more than `max_gib`."""
    device = torch.device(settings.device)
    width = settings.heads * settings.width
    notes = [
        f"Layers of width {width} ({settings.heads} heads), batch {settings.batch}, forward and backward; no mask, no"
        f" dropout. Repeats: {settings.repeats}, each over {SAMPLE_MS} ms, or one call, of every length.",
        _SOURCES,
        FIT,
        f"crossing_{_UNIT}: the length n from which c n^2 outweighs b n, where a + b n + c n^2 is fitted to all"
        f" lengths: until then the projections' O(n d^2) hide attention's O(n^2 d). By multiplications alone it"
        f" would be 2 d: {2 * width}. None where there is no n or no n^2 in the fit.",
        _PAGES,
        f"peak_mib: tensors of forward and backward, above weights and input: {memory_method(device)}.",
        _RESTRICTED,
    ]
    subjects = []
    lengths = sorted(set(settings.lengths or LENGTHS["growth"]))
    for layer in layers(settings):
        why = {length: left_out(layer.name, layer.held, length, settings) for length in lengths}
        notes += filter(None, why.values())
        fitting = [length for length in lengths if why[length] is None]
        step_of = partial(layer.step_of, settings)
        curve = Curve(step_of, fitting, _UNIT, device, crossing=layer.kind is ATTENTION)
        subjects.append(Subject("", layer.name, "", curve.sample, curve.once, layer.texts))
    return Plan("", notes, subjects, settings.warmup)
