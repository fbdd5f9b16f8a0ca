"""Config of loggers, callbacks, folders and sweeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from attnbench.config.fields import MAX_MINUTES, Fault, bounded_field, build_check, path_field
from attnbench.config.targets import find_target_fault

# Names become folders, of which file systems take 255 bytes (of UTF-8: four a character at most), and W&B's groups and
# names, of which it takes 128 characters.
MAX_NAME_LENGTH = 128
MAX_FOLDER_LENGTH = 255  # bytes

_INVALID_PROJECT_CHARACTERS = frozenset("/\\#?%:")


class Logger(Enum):
    """Tracker that mirrors the local records."""

    wandb = "wandb"
    csv = "csv"
    tensorboard = "tensorboard"
    none = "none"


class LoggerMode(Enum):
    """Mode of W&B: local files only, or also the server."""

    offline = "offline"
    online = "online"


@dataclass
class LoggerConfig:
    """Options of the tracker; offline by default: no account, no prompt, no network."""

    name: Logger = Logger.wandb
    mode: LoggerMode = LoggerMode.offline
    project: str = "attnbench"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)
    log_every_n_steps: int = bounded_field(10, minimum=1)

    def find_faults(self) -> Iterator[Fault]:
        """Yield what W&B would refuse once the run has begun."""
        if self.name is not Logger.wandb:
            return
        for key, value in (("project", self.project), ("entity", self.entity)):
            if value is not None and (not 0 < len(value) <= 128 or set(value) & _INVALID_PROJECT_CHARACTERS):
                letters = " ".join(sorted(_INVALID_PROJECT_CHARACTERS))
                yield Fault(key, repr(value), f"expected 1 to 128 characters, none of {letters} (W&B's rule)")
        for tag in self.tags:
            if not 0 < len(tag) <= 64:
                yield Fault("tags", repr(tag), "expected tags of 1 to 64 characters (W&B's rule)")


@dataclass
class CallbacksConfig:
    """Observation of training; no option changes a result."""

    pictures: bool = True  # attention maps and other figures of the task
    probe_size: int = bounded_field(4, minimum=1)  # validation examples whose attention is drawn
    pictures_every_validations: int | None = bounded_field(None, minimum=1)  # null: at the end only
    samples: int = bounded_field(8, minimum=0)  # sample outputs per validation
    progress_bar: bool = True
    # The user's own Lightning callbacks, called without arguments; they must not change the result.
    targets: list[str] = field(default_factory=list, metadata=build_check(find_target_fault))


@dataclass
class PathsConfig:
    """Folders; they are not part of a run's identity."""

    data: str = path_field("data")
    output: str = path_field("multirun")
    cache: str = path_field(".cache/attnbench")


DEFAULT_LOOKS = (3, 5, 10, 20)  # numbers of seeds
MAX_LOOK = 1000
# One day. If the machine of a run is lost, other machines wait this long before they take the run over.
_MAX_LEASE_SECONDS = 24 * 60 * 60


class OnOutOfMemory(Enum):
    """Reaction to a lack of memory."""

    fail = "fail"
    halve_batch = "halve_batch"  # retry with half of trainer.micro_batch_size until it fits; updates stay the same


@dataclass
class TuneConfig:
    """Choice of values for each setting of a sweep by validation, before the setting gets all its seeds."""

    # Candidate values by config key, as in {optim.lr: [1e-3,2e-3]}; null: no tuning. Not typed as a dict, because Hydra
    # refuses new keys in a typed one.
    params: Any = None
    seeds: list[int] = field(default_factory=lambda: [1])  # seeds of the tuning runs
    extend: int = bounded_field(0, minimum=0, maximum=20)  # steps beyond the candidates if the best is at their edge
    overrides: list[str] = field(default_factory=list)  # of the tuning runs, such as trainer.max_steps=200

    def find_faults(self) -> Iterator[Fault]:
        """Check that each key has a list of values, and that there is a seed."""
        expected = "expected a list of candidates for each key, as in {optim.lr: [1e-3,2e-3]}"
        if self.params is not None and (not isinstance(self.params, dict) or not self.params):
            yield Fault("params", str(self.params), expected)
        elif self.params is not None:
            for key, values in self.params.items():
                if not isinstance(values, list) or not values:
                    yield Fault(f"params.{key}", str(values), expected)
        if not self.seeds:
            yield Fault("seeds", "[]", "expected at least one seed")


@dataclass
class SweepConfig:
    """Folder and table of a sweep, and how its runs are executed; no option changes a result."""

    name: str = "default"
    table: str | None = None  # experiments/<table>/table.yaml; null: the sweep's own name
    workers: int = bounded_field(
        1, minimum=1, maximum=1024
    )  # runs at once on this machine, its cores divided among them
    retries: int = bounded_field(
        0, minimum=0, maximum=1000
    )  # further attempts in one command at a run that was killed, hung or raised
    on_oom: OnOutOfMemory = OnOutOfMemory.fail
    lease_seconds: float = bounded_field(
        120.0, greater_than=0, maximum=_MAX_LEASE_SECONDS
    )  # after this time without renewal by another machine, its run is free
    hang_timeout_minutes: float | None = bounded_field(
        None, greater_than=0, maximum=MAX_MINUTES
    )  # without progress, a run is killed; null: never
    zip: list[list[str]] = field(default_factory=list)  # groups of swept keys that change together
    skip_invalid: bool = False  # leave combinations out that cannot be built; the table lists them
    tune: TuneConfig = field(default_factory=TuneConfig)
    # auto: seeds until each comparison with the baseline is decided, with looks after 3, 5, 10 and 20 seeds; a list, as
    # in [3,6,12]: other looks; null: the seeds that the command sweeps.
    seeds: Any = None
    baseline: Any = None  # config values of the row that others are compared with, as in {attention.score: dot}
    study: str | None = None  # of Optuna's, and the number of this run's trial in it: set by hydra/sweeper=optuna
    trial: int | None = bounded_field(None, minimum=0)

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds after which comparisons are looked at; empty: the command names the seeds."""
        return DEFAULT_LOOKS if self.seeds == "auto" else tuple(self.seeds or ())

    def find_faults(self) -> Iterator[Fault]:
        """Check the name, which becomes a folder, the looks and the baseline."""
        yield from self._find_comparison_faults()
        if not self.name or any(c in self.name for c in "/\\ \t\n") or self.name.startswith("."):
            yield Fault("name", repr(self.name), "expected a folder name without spaces or slashes")
        elif self.name.startswith(("~", "-")):
            expected = "expected a folder name that does not begin with ~ (a home folder) or - (an option)"
            yield Fault("name", repr(self.name), expected)
        for key, name in (("name", self.name), ("table", self.table)):
            if name is not None:
                yield from find_name_faults(key, name)
        if self.table is not None and (self.table.startswith(".") or "/" in self.table or not self.table):
            yield Fault("table", repr(self.table), "expected the name of a folder in experiments/")

    def _find_comparison_faults(self) -> Iterator[Fault]:
        if self.seeds is not None and self.seeds != "auto" and not _are_looks(self.seeds):
            expected = f"expected auto, or a list of increasing numbers from 2 to {MAX_LOOK}, as in [3,5,10]"
            yield Fault("seeds", str(self.seeds), expected)
        if self.baseline is not None and (not isinstance(self.baseline, dict) or not self.baseline):
            yield Fault("baseline", str(self.baseline), "expected keys with values, as in {attention.score: dot}")
        elif self.seeds is not None and self.baseline is None:
            yield Fault("seeds", str(self.seeds), "expected sweep.baseline too, as in {attention.score: dot}")


def _are_looks(seeds: Any) -> bool:
    """Return True for a list of at least one increasing whole number from 2 on."""
    return (
        isinstance(seeds, list)
        and bool(seeds)
        and all(type(count) is int and 2 <= count <= MAX_LOOK for count in seeds)
        and all(before < after for before, after in itertools.pairwise(seeds))
    )


def find_name_faults(key: str, name: str) -> Iterator[Fault]:
    """Yield what is wrong with a name that becomes a folder, a title and a name at W&B.

    Args:
        key: config key of the name.
        name: the name.
    """
    if len(name) > MAX_NAME_LENGTH or len(name.encode("utf-8", "replace")) > MAX_FOLDER_LENGTH:
        expected = (
            f"expected at most {MAX_NAME_LENGTH} characters and {MAX_FOLDER_LENGTH} bytes, not {len(name)} characters"
        )
        yield Fault(key, name, expected)
