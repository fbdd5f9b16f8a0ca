"""The core of attention: every score, normalizer and relative position, in time and in memory."""

# Shapes: B batch, H heads, L length (of queries and of keys), K keys, A width of the additive score's hidden layer,
#         D width of a head

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from attnbench.benchmarks.device import MIB, SAMPLE_MS, memory_method, peak_bytes, seconds
from attnbench.benchmarks.measurement import Numbers, Plan, Subject
from attnbench.benchmarks.results import LENGTHS, Settings
from attnbench.config.attention import AttentionConfig, Backend, Normalizer, Score
from attnbench.config.position import Position, PositionConfig
from attnbench.nn.attention import Attention, AttentionOutput
from attnbench.nn.normalizers import NORMALIZERS, collect_choices
from attnbench.nn.positions import POSITIONS, RelativePosition, TokenLayout, build_relative_position
from attnbench.nn.scoring import SCORES, Additive

_BASELINE = "scaled_dot fused"
_NAIVE = "additive naive"
_HELD = 3  # of the largest: softmax or tanh, its input or its slope, and a gradient


class NaiveAdditive(Additive):
    """The additive score as its formula has it, which holds B x H x L x K x A numbers."""

    def forward(self, q_BHLD: Tensor, k_BHKA: Tensor) -> Tensor:
        """scores_BHLK."""
        hidden_BHLKA = torch.tanh(self.query(q_BHLD).unsqueeze(3) + k_BHKA.unsqueeze(2))
        scores_BHLK: Tensor = self.score(hidden_BHLKA).squeeze(-1)
        return scores_BHLK


class Case(NamedTuple):
    """One way to attend."""

    config: AttentionConfig
    position: Position | None = None
    naive: bool = False

    def build(self, heads: int, width: int) -> Attention:
        """Attention between queries, keys and values of this width, with random weights."""
        relative = None
        if self.position is not None:
            relative = build_relative_position(heads, width, width, PositionConfig(kind=self.position), TokenLayout())
        attention = Attention(width, width, self.config, relative)
        if self.naive:
            attention.score = NaiveAdditive(width, width, self.config)
        return attention

    def name(self, device: torch.device) -> str:
        """What is not the default, and the path that computes it."""
        parts = [self.config.score.name]
        if self.config.normalizer is not Normalizer.softmax:
            parts.append(self.config.normalizer.name)
        if self.position is not None:
            parts.append(self.position.name)
        return " ".join([*parts, "naive" if self.naive else self.build(2, 4).select_path(device)])

    def held(self, heads: int, width: int, device: torch.device) -> int:
        """Numbers that it holds at its worst for each query and key of a sequence; 0: no matrix of them."""
        if self.naive:
            return _HELD * heads * width
        attention, q_BHLD = self.build(2, 4), torch.zeros(1, 2, 2, 4)
        biased = attention.position is not None and attention.position.compute_bias(q_BHLD, 2) is not None
        return _HELD * heads if biased or attention.select_path(device) == "eager" else 0

    @property
    def baseline(self) -> str:
        """What its numbers are compared with."""
        hidden = self.config.score in (Score.additive, Score.concat) and not self.naive
        return _NAIVE if hidden else _BASELINE


def cases() -> Iterator[Case]:
    """Every entry of the registries: scores on both paths, normalizers and relative positions with scaled_dot."""
    for score, kind in SCORES.items():
        if kind.is_fusable:
            yield Case(AttentionConfig(score=score))
        yield Case(AttentionConfig(score=score, backend=Backend.eager))
    yield Case(AttentionConfig(score=Score.additive), naive=True)
    for normalizer in NORMALIZERS:
        if normalizer is not Normalizer.softmax:
            yield Case(AttentionConfig(normalizer=normalizer))
    for position, encoding in POSITIONS.items():
        if issubclass(encoding, RelativePosition):
            yield Case(AttentionConfig(), position)


@dataclass(frozen=True)
class Inputs:
    """Queries, keys and values, all of one shape."""

    q_BHLD: Tensor
    k_BHLD: Tensor
    v_BHLD: Tensor

    @classmethod
    def random(cls, settings: Settings, length: int) -> Inputs:
        """Normally distributed; the same for every row."""
        shape = (settings.batch, settings.heads, length, settings.width)
        numbers = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        where = {"device": settings.device, "dtype": getattr(torch, settings.dtype)}
        return cls(*(part.to(**where).requires_grad_() for part in numbers))


class Core:
    """One case on one set of inputs, built when it is first asked."""

    def __init__(self, case: Case, inputs: Inputs) -> None:
        self.case, self.inputs, self.device = case, inputs, inputs.q_BHLD.device

    @cached_property
    def attention(self) -> Attention:
        """The module, where the inputs are."""
        _, heads, _, width = self.inputs.q_BHLD.shape
        return self.case.build(heads, width).to(self.device, self.inputs.q_BHLD.dtype)

    def sample(self) -> Numbers:
        """Milliseconds of inference, and of forward and backward as in training."""
        self.attention.eval()
        with torch.no_grad():
            forward = seconds(self.forward, self.device)
        self.attention.train()
        return {"forward_ms": 1e3 * forward, "forward_backward_ms": 1e3 * seconds(self.step, self.device)}

    def once(self) -> Numbers:
        """What forward and backward hold at their worst, gradients included."""
        self.attention.train()
        return {"peak_mib": peak_bytes(self.step, self.device) / MIB}

    def forward(self) -> Tensor:
        """context_BHLD."""
        q_BHLD, k_BHLD, position = self.inputs.q_BHLD, self.inputs.k_BHLD, self.attention.position
        if position is not None:
            q_BHLD, k_BHLD = position.rotate(q_BHLD), position.rotate(k_BHLD)
        found: AttentionOutput = self.attention(q_BHLD, self.attention.score.prepare_keys(k_BHLD), self.inputs.v_BHLD)
        return found.context

    def step(self) -> None:
        """Forward, and the gradients of inputs and weights."""
        with collect_choices() as made:  # hard attention learns from these
            outputs = [self.forward(), *made]
        inputs = [self.inputs.q_BHLD, self.inputs.k_BHLD, self.inputs.v_BHLD, *self.attention.parameters()]
        torch.autograd.grad(outputs, inputs, [torch.ones_like(output) for output in outputs], allow_unused=True)


def left_out(name: str, held: int, length: int, settings: Settings) -> str | None:
    """Why a row that holds so many numbers for each query and key is not measured at this length; None: it is."""
    gib = held * settings.batch * length**2 * getattr(torch, settings.dtype).itemsize / 2**30
    if gib <= settings.max_gib:
        return None
    return (
        f"{name} is left out at length {length}: it would hold {gib:.2g} GiB, more than --max-gib {settings.max_gib:g}."
    )


def plan(settings: Settings) -> Plan:
    """Every case at every length, but for what would hold more than `max_gib`."""
    device = torch.device(settings.device)
    notes = [
        f"Batch {settings.batch}, heads {settings.heads}, width of a head {settings.width}; no mask, no dropout.",
        f"Repeats: {settings.repeats}, each over {SAMPLE_MS} ms, or one call; forward_ms: no gradients.",
        f"peak_mib: tensors of forward and backward, above the inputs: {memory_method(device)}.",
    ]
    subjects = []
    for length in settings.lengths or LENGTHS["attention"]:
        inputs = Inputs.random(settings, length)
        for case in cases():
            name, held = case.name(device), case.held(settings.heads, settings.width, device)
            why = left_out(name, held, length, settings)
            if why is not None:
                notes.append(why)
                continue
            core = Core(case, inputs)
            subjects.append(Subject(str(length), name, case.baseline, core.sample, core.once))
    return Plan("length", notes, subjects, settings.warmup)
