"""Config of training: length, hardware, precision, and debugging options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from attnbench.config.fields import MAX_MINUTES, Fault, bounded_field

# One process per device on one machine.
_MAX_DEVICES = 64
_MAX_NODES = 10_000
# More threads than any CPU has make the system report a lack of memory.
_MAX_THREADS = 1024


class Accelerator(Enum):
    """Hardware to compute on."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


# Lightning's names, which cannot be written as members of a class.
Precision = Enum("Precision", {"32-true": "32-true", "bf16-mixed": "bf16-mixed", "16-mixed": "16-mixed"})
Precision.__doc__ = "Number format of the computation, in Lightning's names; mixed formats keep float32 weights."


class Strategy(Enum):
    """Distribution of a model over ranks."""

    auto = "auto"  # ddp if there are several ranks
    ddp = "ddp"  # every rank has the whole model
    fsdp = "fsdp"  # parameters, gradients and optimizer states are sharded


class FinalWeights(Enum):
    """Weights that are tested and kept as model.ckpt."""

    best = "best"  # the checkpoint with the best validation metric
    last = "last"
    average = "average"  # the mean of the last `average_last` validation checkpoints


@dataclass
class TrainerConfig:
    """Length, hardware and precision of training; at least one of max_epochs, max_steps and max_minutes is set."""

    max_epochs: int | None = bounded_field(None, minimum=1)
    max_steps: int | None = bounded_field(None, minimum=1)  # updates of the weights
    max_minutes: float | None = bounded_field(
        None, greater_than=0, maximum=MAX_MINUTES
    )  # training time without interruptions
    check_val_every_n_epoch: int = bounded_field(1, minimum=1)
    patience: int | None = bounded_field(None, minimum=1)  # validations without improvement; null: no early stop
    final_weights: FinalWeights = FinalWeights.best
    average_last: int = bounded_field(5, minimum=1)  # checkpoints kept, and averaged if final_weights=average
    save_every_minutes: float = bounded_field(
        5.0, greater_than=0, maximum=MAX_MINUTES
    )  # longest training time that is lost when the process is killed
    micro_batch_size: int | None = bounded_field(
        None, minimum=1
    )  # largest batch of a device, in the unit of the batch; null: the whole update
    precision: Precision = Precision["32-true"]
    compile: bool = False
    activation_checkpointing: bool = False  # recompute activations in the backward pass: less memory, more time
    accelerator: Accelerator = Accelerator.auto
    devices: int = bounded_field(1, minimum=1, maximum=_MAX_DEVICES)
    num_nodes: int = bounded_field(1, minimum=1, maximum=_MAX_NODES)
    strategy: Strategy = Strategy.auto
    num_threads: int | None = bounded_field(
        None, minimum=1, maximum=_MAX_THREADS
    )  # CPU threads; null: what torch chooses

    def find_faults(self) -> Iterator[Fault]:
        """Check that training ends, and that the accelerator supports the precision."""
        if self.max_epochs is None and self.max_steps is None and self.max_minutes is None:
            yield Fault("max_steps", "null", "expected max_steps, max_epochs or max_minutes to be set")
        if self.accelerator is Accelerator.cpu and self.precision is Precision["16-mixed"]:
            yield Fault("precision", "16-mixed", "expected bf16-mixed or 32-true: fp16 needs a GPU")
        if self.strategy is Strategy.fsdp:
            if self.devices * self.num_nodes == 1:
                yield Fault("devices", "1", "expected several: strategy=fsdp divides a model among them")
            if self.precision is Precision["16-mixed"]:
                yield Fault("precision", "16-mixed", "expected bf16-mixed or 32-true for strategy=fsdp")
            if self.compile:
                yield Fault("compile", "true", "expected false for strategy=fsdp")


@dataclass
class DebugConfig:
    """Debugging options; all are off for results."""

    overfit_batches: int = bounded_field(0, minimum=0)  # train and validate on this many batches; 0: off
    limit_batches: int | None = bounded_field(None, minimum=1)  # of each loader; null: all
    detect_anomaly: bool = False  # stop at the operation that produces a NaN; slow
