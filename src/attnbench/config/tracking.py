"""Where numbers and pictures go: loggers, callbacks, folders; and how a sweep is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from attnbench.config.fields import Fault, number

_NOT_IN_PROJECTS = frozenset("/\\#?%:")


class Logger(Enum):
    """Which tracker mirrors the local records."""

    wandb = "wandb"
    csv = "csv"
    tensorboard = "tensorboard"
    none = "none"


class LoggerMode(Enum):
    """W&B: files only, or also the server."""

    offline = "offline"
    online = "online"


@dataclass
class LoggerConfig:
    """The tracker; offline by default: no account, no prompt, no network."""

    name: Logger = Logger.wandb
    mode: LoggerMode = LoggerMode.offline
    project: str = "attnbench"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)
    every_steps: int = number(10, at_least=1)

    def faults(self) -> Iterator[Fault]:
        """Yield what W&B would refuse once the run has begun."""
        if self.name is not Logger.wandb:
            return
        for key, value in (("project", self.project), ("entity", self.entity)):
            if value is not None and (not 0 < len(value) <= 128 or set(value) & _NOT_IN_PROJECTS):
                letters = " ".join(sorted(_NOT_IN_PROJECTS))
                yield Fault(key, repr(value), f"expected 1 to 128 characters, none of {letters} (W&B's rule)")
        for tag in self.tags:
            if not 0 < len(tag) <= 64:
                yield Fault("tags", repr(tag), "expected tags of 1 to 64 characters (W&B's rule)")


@dataclass
class CallbacksConfig:
    """What is observed beside training; none of it changes a result."""

    pictures: bool = True  # attention maps, and what else a task draws
    probe_size: int = number(4, at_least=1)  # validation examples whose attention is drawn
    pictures_every_validations: int | None = number(None, at_least=1)  # null: at the end only
    samples: int = number(8, at_least=0)  # sample outputs a validation
    progress_bar: bool = True


@dataclass
class PathsConfig:
    """Folders; none of them is part of a run's identity."""

    data: str = "data"
    output: str = "multirun"
    cache: str = ".cache/attnbench"


class OnMemory(Enum):
    """What becomes of a run that runs out of memory."""

    fail = "fail"
    halve_batch = "halve_batch"  # again with half of trainer.micro_batch, until it fits: the same updates


@dataclass
class SweepConfig:
    """The folder and table that runs belong to, and how a multirun goes about them; no result hangs on it."""

    name: str = "default"
    table: str | None = None  # experiments/<table>/table.yaml; null: the sweep's own name
    workers: int = number(1, at_least=1)  # runs at once on this machine, its cores divided among them
    retries: int = number(0, at_least=0)  # further attempts in one command at a run that was killed, hung or raised
    on_oom: OnMemory = OnMemory.fail
    lease_seconds: float = number(120.0, above=0)  # without a sign of life from another machine, its run is free
    hung_minutes: float | None = number(None, above=0)  # without progress, a run is killed; null: never
    study: str | None = None  # of Optuna's, and the number of this run's trial in it: set by hydra/sweeper=optuna
    trial: int | None = number(None, at_least=0)

    def faults(self) -> Iterator[Fault]:
        """The name is a folder's."""
        if not self.name or any(c in self.name for c in "/\\ \t\n") or self.name.startswith("."):
            yield Fault("name", repr(self.name), "expected a folder name without spaces or slashes")
