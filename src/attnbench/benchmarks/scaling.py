"""Benchmark of model size: training speed and memory against depth, width, heads and sequence length."""

# Shapes: B batch, L length of source and target

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from attnbench.benchmarks.device import SAMPLE_MS, describe_memory_method
from attnbench.benchmarks.measurement import BenchmarkCase, Measurements, SuitePlan
from attnbench.benchmarks.results import Settings
from attnbench.benchmarks.size_curves import FIT_NOTE, SizeCurve
from attnbench.config.attention import AttentionConfig
from attnbench.config.model import TransformerConfig
from attnbench.config.optim import OptimConfig
from attnbench.config.position import PositionConfig
from attnbench.models.transformer import Transformer
from attnbench.nn.loss import linear_cross_entropy
from attnbench.tasks.optimization import build_optimizer

_FACTORS = (1, 2, 4, 8)
_NUM_SENTENCES, _VOCAB_SIZE = 16, 256


class ModelSize(NamedTuple):
    """Sizes of the model; one is varied at a time."""

    depth: int = 2
    d_model: int = 128
    num_heads: int = 4
    length: int = 32  # of source and of target


class SizeAxis(NamedTuple):
    """Varied field of `ModelSize`: its smallest value, and theoretical complexities."""

    start: int
    operations: str  # per token
    memory: str


AXES = {
    "depth": SizeAxis(1, "O(N)", "O(N)"),
    "d_model": SizeAxis(64, "O(d^2 + n d)", "O(n d + d^2)"),
    "num_heads": SizeAxis(1, "O(1)", "O(1)"),
    "length": SizeAxis(16, "O(d^2 + n d)", "O(n d)"),
}


def build_update(model: ModelSize, settings: Settings) -> Callable[[], None]:
    """Build one training update of a model, on fixed random sentences without padding.

    Args:
        model: sizes.
        settings: options of the command.
    """
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
    config = TransformerConfig(
        depth=model.depth, d_model=model.d_model, d_ff=2 * model.d_model, num_heads=model.num_heads
    )
    words = {"source_vocab": _VOCAB_SIZE, "target_vocab": _VOCAB_SIZE}
    network = Transformer(config, AttentionConfig(), PositionConfig(), **words).to(device)
    optimizer = build_optimizer(network.parameters(), OptimConfig(), is_fused=True)
    source_BL, target_BL = torch.randint(1, _VOCAB_SIZE, (2, _NUM_SENTENCES, model.length), device=device)

    def update() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            hidden_BLD = network(source_BL, target_BL).hidden
            found = linear_cross_entropy(hidden_BLD.flatten(0, 1), network.output_weight, None, target_BL.flatten())
        torch.autograd.backward(found.loss_sum)
        optimizer.step()
        optimizer.zero_grad()

    return update


class ScalingCurve(SizeCurve):
    """Training speed along one axis, at multiples of its smallest value."""

    def __init__(self, axis: str, settings: Settings) -> None:
        self.axis, start = axis, AXES[axis].start
        self.models = {times: ModelSize()._replace(**{axis: start * times}) for times in _FACTORS}
        super().__init__(
            lambda times: build_update(self.models[times], settings), _FACTORS, "times", torch.device(settings.device)
        )

    def measure_time(self) -> Measurements:
        """Measure target tokens per second at each size, and fit the exponent."""
        rates = {n: 1e3 * _NUM_SENTENCES * self.models[n].length / ms for n, ms in self.measure_times().items()}
        return self.format_measurements("target_tokens_per_sec", rates)


def plan_suite(settings: Settings) -> SuitePlan:
    """Plan the suite: one row per axis."""
    device = torch.device(settings.device)
    base = ", ".join(f"{name} {value}" for name, value in ModelSize()._asdict().items())
    notes = [
        f"An encoder-decoder Transformer of {base}, d_ff 2 d_model, {_VOCAB_SIZE} words, but for what a row varies;"
        f" _at_2_times: at twice where the row begins. Updates with Adam, without loading, of {_NUM_SENTENCES}"
        f" sentences without padding. Repeats: {settings.repeats}, each over {SAMPLE_MS} ms, or one call, of"
        f" every size.",
        "operations a token, memory of an update: in theory, with N layers, length n, width d.",
        FIT_NOTE,
        "What is small spends its time on calls and not on numbers: it grows more slowly than theory says.",
        f"peak_mib: tensors of an update, above weights and the optimizer's state: {describe_memory_method(device)}.",
    ]
    subjects = []
    for name, axis in AXES.items():
        curve, texts = ScalingCurve(name, settings), {"operations a token": axis.operations, "memory": axis.memory}
        row = f"{name} {axis.start} to {axis.start * _FACTORS[-1]}"
        subjects.append(BenchmarkCase("", row, "", curve.measure_time, curve.measure_memory, texts))
    return SuitePlan("", notes, subjects, settings.warmup)
