"""Benchmark of attention functions: time and memory of every score, normalizer and relative position."""

# Shapes: B batch, H heads, L length (of queries and of keys), K keys, A width of the additive score's hidden layer,
#         D width of a head

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from attnbench.benchmarks.device import MIB, SAMPLE_MS, describe_memory_method, measure_peak_bytes, measure_seconds
from attnbench.benchmarks.measurement import BenchmarkCase, Measurements, SuitePlan
from attnbench.benchmarks.results import DEFAULT_LENGTHS, Settings
from attnbench.config.attention import AttentionConfig, Backend, Normalizer, Score
from attnbench.config.position import Position, PositionConfig
from attnbench.nn.attention import Attention, AttentionOutput
from attnbench.nn.normalizers import NORMALIZERS, collect_choices
from attnbench.nn.positions import POSITIONS, RelativePosition, TokenLayout, build_relative_position
from attnbench.nn.scoring import SCORES, Additive

_BASELINE = "scaled_dot fused"
_NAIVE = "additive naive"
_MATRICES_HELD = 3  # matrices that are held at the peak: output, input (or slope) and gradient


class NaiveAdditiveScore(Additive):
    """Additive score computed directly from its formula; it holds B x H x L x K x A numbers."""

    def forward(self, q_BHLD: Tensor, k_BHKA: Tensor) -> Tensor:
        """Compute scores_BHLK."""
        hidden_BHLKA = torch.tanh(self.query(q_BHLD).unsqueeze(3) + k_BHKA.unsqueeze(2))
        scores_BHLK: Tensor = self.score(hidden_BHLKA).squeeze(-1)
        return scores_BHLK


class AttentionCase(NamedTuple):
    """Attention with one score, normalizer and relative position."""

    config: AttentionConfig
    position: Position | None = None
    is_naive: bool = False

    def build(self, heads: int, width: int) -> Attention:
        """Build the attention module with random weights.

        Args:
            heads: number of heads.
            width: width of queries, keys and values per head.
        """
        relative = None
        if self.position is not None:
            relative = build_relative_position(heads, width, width, PositionConfig(kind=self.position), TokenLayout())
        attention = Attention(width, width, self.config, relative)
        if self.is_naive:
            attention.score = NaiveAdditiveScore(width, width, self.config)
        return attention

    def format_name(self, device: torch.device) -> str:
        """Return a name of all settings that are not the default, and of the backend."""
        parts = [self.config.score.name]
        if self.config.normalizer is not Normalizer.softmax:
            parts.append(self.config.normalizer.name)
        if self.position is not None:
            parts.append(self.position.name)
        return " ".join([*parts, "naive" if self.is_naive else self.build(2, 4).select_path(device)])

    def count_held_numbers(self, heads: int, width: int, device: torch.device) -> int:
        """Count the numbers held at the peak for each pair of query and key; 0 if there is no such matrix."""
        if self.is_naive:
            return _MATRICES_HELD * heads * width
        attention, q_BHLD = self.build(2, 4), torch.zeros(1, 2, 2, 4)
        biased = attention.position is not None and attention.position.compute_bias(q_BHLD, 2) is not None
        return _MATRICES_HELD * heads if biased or attention.select_path(device) == "eager" else 0

    @property
    def baseline(self) -> str:
        """Name of the row that this one is compared with."""
        hidden = self.config.score in (Score.additive, Score.concat) and not self.is_naive
        return _NAIVE if hidden else _BASELINE


def list_cases() -> Iterator[AttentionCase]:
    """Yield a case for each score on both backends, and for each normalizer and relative position."""
    for score, kind in SCORES.items():
        if kind.is_fusable:
            yield AttentionCase(AttentionConfig(score=score))
        yield AttentionCase(AttentionConfig(score=score, backend=Backend.eager))
    yield AttentionCase(AttentionConfig(score=Score.additive), is_naive=True)
    for normalizer in NORMALIZERS:
        if normalizer is not Normalizer.softmax:
            yield AttentionCase(AttentionConfig(normalizer=normalizer))
    for position, encoding in POSITIONS.items():
        if issubclass(encoding, RelativePosition):
            yield AttentionCase(AttentionConfig(), position)


@dataclass(frozen=True)
class AttentionInputs:
    """Queries, keys and values of the same shape."""

    q_BHLD: Tensor
    k_BHLD: Tensor
    v_BHLD: Tensor

    @classmethod
    def create_random(cls, settings: Settings, length: int) -> AttentionInputs:
        """Create normally distributed inputs, the same for every row."""
        shape = (settings.batch, settings.heads, length, settings.width)
        numbers = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
        where = {"device": settings.device, "dtype": getattr(torch, settings.dtype)}
        return cls(*(part.to(**where).requires_grad_() for part in numbers))


class AttentionBenchmark:
    """Measurement of one case on one set of inputs; the module is built at first use."""

    def __init__(self, case: AttentionCase, inputs: AttentionInputs) -> None:
        self.case, self.inputs, self.device = case, inputs, inputs.q_BHLD.device

    @cached_property
    def attention(self) -> Attention:
        """The attention module on the device of the inputs."""
        _, heads, _, width = self.inputs.q_BHLD.shape
        return self.case.build(heads, width).to(self.device, self.inputs.q_BHLD.dtype)

    def measure_time(self) -> Measurements:
        """Measure inference, and forward and backward pass in training mode, in milliseconds."""
        self.attention.eval()
        with torch.no_grad():
            forward = measure_seconds(self.forward, self.device)
        self.attention.train()
        return {"forward_ms": 1e3 * forward, "forward_backward_ms": 1e3 * measure_seconds(self.run_step, self.device)}

    def measure_memory(self) -> Measurements:
        """Measure the peak memory of forward and backward pass, including gradients."""
        self.attention.train()
        return {"peak_mib": measure_peak_bytes(self.run_step, self.device) / MIB}

    def forward(self) -> Tensor:
        """Compute context_BHLD."""
        q_BHLD, k_BHLD, position = self.inputs.q_BHLD, self.inputs.k_BHLD, self.attention.position
        if position is not None:
            q_BHLD, k_BHLD = position.rotate(q_BHLD), position.rotate(k_BHLD)
        found: AttentionOutput = self.attention(q_BHLD, self.attention.score.prepare_keys(k_BHLD), self.inputs.v_BHLD)
        return found.context

    def run_step(self) -> None:
        """Run the forward pass, and compute the gradients of inputs and weights."""
        with collect_choices() as made:  # log-probabilities that hard attention is trained with
            outputs = [self.forward(), *made]
        inputs = [self.inputs.q_BHLD, self.inputs.k_BHLD, self.inputs.v_BHLD, *self.attention.parameters()]
        torch.autograd.grad(outputs, inputs, [torch.ones_like(output) for output in outputs], allow_unused=True)


def explain_omission(name: str, num_held: int, length: int, settings: Settings) -> str | None:
    """Explain why a row is not measured.

    Args:
        name: name of the row.
        num_held: numbers held for each pair of query and key.
        length: sequence length.
        settings: options of the command.

    Returns:
        A sentence if the row needs more than `max_gib`, else None.
    """
    gib = num_held * settings.batch * length**2 * getattr(torch, settings.dtype).itemsize / 2**30
    if gib <= settings.max_gib:
        return None
    return (
        f"{name} is left out at length {length}: it would hold {gib:.2g} GiB, more than --max-gib {settings.max_gib:g}."
    )


def plan_suite(settings: Settings) -> SuitePlan:
    """Plan the suite: every case at every length, except those that need more than `max_gib`."""
    device = torch.device(settings.device)
    notes = [
        f"Batch {settings.batch}, heads {settings.heads}, width of a head {settings.width}; no mask, no dropout.",
        f"Repeats: {settings.repeats}, each over {SAMPLE_MS} ms, or one call; forward_ms: no gradients.",
        f"peak_mib: tensors of forward and backward, above the inputs: {describe_memory_method(device)}.",
    ]
    subjects = []
    for length in settings.lengths or DEFAULT_LENGTHS["attention"]:
        inputs = AttentionInputs.create_random(settings, length)
        for case in list_cases():
            name, held = case.format_name(device), case.count_held_numbers(settings.heads, settings.width, device)
            why = explain_omission(name, held, length, settings)
            if why is not None:
                notes.append(why)
                continue
            core = AttentionBenchmark(case, inputs)
            subjects.append(BenchmarkCase(str(length), name, case.baseline, core.measure_time, core.measure_memory))
    return SuitePlan("length", notes, subjects, settings.warmup)
