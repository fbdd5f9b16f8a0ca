"""How long, on what and how carefully to train; and ways to look for a fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import LONGEST_MINUTES, Fault, number

# A process each, on one machine; the largest ones that are sold have 16 GPUs.
_MOST_DEVICES = 64
_MOST_NODES = 10_000
# More than any CPU has; the system refuses to start so many, which looks like a want of memory.
_MOST_THREADS = 1024


class Accelerator(Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Precision(Enum):
    """In what numbers to compute; the mixed ones keep float32 weights."""

    fp32 = "fp32"
    bf16_mixed = "bf16_mixed"
    fp16_mixed = "fp16_mixed"


class Strategy(Enum):
    """What ranks share of a model."""

    auto = "auto"  # ddp where there are several
    ddp = "ddp"  # each has all of it
    fsdp = "fsdp"  # each has a share of parameters, gradients and the optimiser's state


class FinalWeights(Enum):
    """Which weights are tested and kept as model.ckpt."""

    best = "best"  # the checkpoint with the best validation metric
    last = "last"
    average = "average"  # the mean of the last `average_last` validation checkpoints


@dataclass
class TrainerConfig:
    """Length, hardware and precision of training; at least one of the three lengths is set."""

    max_epochs: int | None = number(None, at_least=1)
    max_steps: int | None = number(None, at_least=1)  # updates of the weights
    max_minutes: float | None = number(None, above=0, at_most=LONGEST_MINUTES)  # of training, interruptions not counted
    validate_every_epochs: int = number(1, at_least=1)
    patience: int | None = number(None, at_least=1)  # validations without improvement; null: no early stop
    final_weights: FinalWeights = FinalWeights.best
    average_last: int = number(5, at_least=1)  # checkpoints kept, and averaged if final_weights=average
    save_every_minutes: float = number(5.0, above=0, at_most=LONGEST_MINUTES)  # what a kill can cost at most
    micro_batch: int | None = number(None, at_least=1)  # a device's share at once, in the batch's unit; null: all
    precision: Precision = Precision.fp32
    compile: bool = False
    recompute: bool = False  # activations inside blocks, when their gradients are asked for: memory for time
    accelerator: Accelerator = Accelerator.auto
    devices: int = number(1, at_least=1, at_most=_MOST_DEVICES)
    num_nodes: int = number(1, at_least=1, at_most=_MOST_NODES)
    strategy: Strategy = Strategy.auto
    threads: int | None = number(None, at_least=1, at_most=_MOST_THREADS)  # CPU threads; null: what torch chooses

    def faults(self) -> Iterator[Fault]:
        """Training must end, and its precision be one that the accelerator has."""
        if self.max_epochs is None and self.max_steps is None and self.max_minutes is None:
            yield Fault("max_steps", "null", "expected max_steps, max_epochs or max_minutes to be set")
        if self.accelerator is Accelerator.cpu and self.precision is Precision.fp16_mixed:
            yield Fault("precision", "fp16_mixed", "expected bf16_mixed or fp32: fp16 needs a GPU")
        if self.strategy is Strategy.fsdp:
            if self.devices * self.num_nodes == 1:
                yield Fault("devices", "1", "expected several: strategy=fsdp divides a model among them")
            if self.precision is Precision.fp16_mixed:
                yield Fault("precision", "fp16_mixed", "expected bf16_mixed or fp32 for strategy=fsdp")
            if self.compile:
                yield Fault("compile", "true", "expected false for strategy=fsdp")


@dataclass
class DebugConfig:
    """Shortcuts for looking for a fault; all off in a result."""

    overfit_batches: int = number(0, at_least=0)  # train and validate on this many batches; 0: off
    limit_batches: int | None = number(None, at_least=1)  # of each loader; null: all
    detect_anomaly: bool = False  # stop where a NaN is born; slow
