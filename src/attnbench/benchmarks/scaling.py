"""How training a Transformer slows down and what it holds as it gets deeper, wider, of more heads, or reads more."""

# Shapes: B batch, L length of source and target

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from attnbench.benchmarks.device import SAMPLE_MS, memory_method
from attnbench.benchmarks.measurement import Numbers, Plan, Subject
from attnbench.benchmarks.results import Settings
from attnbench.benchmarks.size_curves import FIT, Curve
from attnbench.config.attention import AttentionConfig
from attnbench.config.model import TransformerConfig
from attnbench.config.optim import OptimConfig
from attnbench.config.position import PositionConfig
from attnbench.models.transformer import Transformer
from attnbench.nn.loss import linear_cross_entropy
from attnbench.tasks.optimization import build_optimizer

_TIMES = (1, 2, 4, 8)
_SENTENCES, _VOCABULARY = 16, 256


class Model(NamedTuple):
    """What is varied, one at a time."""

    depth: int = 2
    d_model: int = 128
    num_heads: int = 4
    length: int = 32  # of source and of target


class Axis(NamedTuple):
    """One of Model's fields, from its smallest value on, and what theory says."""

    start: int
    operations: str  # for a token
    memory: str


AXES = {
    "depth": Axis(1, "O(N)", "O(N)"),
    "d_model": Axis(64, "O(d^2 + n d)", "O(n d + d^2)"),
    "num_heads": Axis(1, "O(1)", "O(1)"),
    "length": Axis(16, "O(d^2 + n d)", "O(n d)"),
}


def update_of(model: Model, settings: Settings) -> Callable[[], None]:
    """An update of this model as in training, always on the same random sentences without padding."""
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype)
    config = TransformerConfig(
        depth=model.depth, d_model=model.d_model, d_ff=2 * model.d_model, num_heads=model.num_heads
    )
    words = {"source_vocab": _VOCABULARY, "target_vocab": _VOCABULARY}
    network = Transformer(config, AttentionConfig(), PositionConfig(), **words).to(device)
    optimizer = build_optimizer(network.parameters(), OptimConfig(), is_fused=True)
    source_BL, target_BL = torch.randint(1, _VOCABULARY, (2, _SENTENCES, model.length), device=device)

    def update() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            hidden_BLD = network(source_BL, target_BL).hidden
            found = linear_cross_entropy(hidden_BLD.flatten(0, 1), network.output_weight, None, target_BL.flatten())
        torch.autograd.backward(found.loss_sum)
        optimizer.step()
        optimizer.zero_grad()

    return update


class Scaling(Curve):
    """Training along one axis, in multiples of where it starts."""

    def __init__(self, axis: str, settings: Settings) -> None:
        self.axis, start = axis, AXES[axis].start
        self.models = {times: Model()._replace(**{axis: start * times}) for times in _TIMES}
        super().__init__(
            lambda times: update_of(self.models[times], settings), _TIMES, "times", torch.device(settings.device)
        )

    def sample(self) -> Numbers:
        """Target tokens of each size a second, and how they become fewer."""
        rates = {n: 1e3 * _SENTENCES * self.models[n].length / ms for n, ms in self.times().items()}
        return self.numbers("target_tokens_per_sec", rates)


def plan(settings: Settings) -> Plan:
    """A row for each axis."""
    device = torch.device(settings.device)
    base = ", ".join(f"{name} {value}" for name, value in Model()._asdict().items())
    notes = [
        f"An encoder-decoder Transformer of {base}, d_ff 2 d_model, {_VOCABULARY} words, but for what a row varies;"
        f" _at_2_times: at twice where the row begins. Updates with Adam, without loading, of {_SENTENCES} sentences"
        f" without padding. Repeats: {settings.repeats}, each over {SAMPLE_MS} ms, or one call, of every size.",
        "operations a token, memory of an update: in theory, with N layers, length n, width d.",
        FIT,
        "What is small spends its time on calls and not on numbers: it grows more slowly than theory says.",
        f"peak_mib: tensors of an update, above weights and the optimizer's state: {memory_method(device)}.",
    ]
    subjects = []
    for name, axis in AXES.items():
        curve, texts = Scaling(name, settings), {"operations a token": axis.operations, "memory": axis.memory}
        row = f"{name} {axis.start} to {axis.start * _TIMES[-1]}"
        subjects.append(Subject("", row, "", curve.sample, curve.once, texts))
    return Plan("", notes, subjects, settings.warmup)
