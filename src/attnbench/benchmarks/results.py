"""What a benchmark measured and on what: the record that its tables are made from."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench.data.text_files import write_atomically
from attnbench.records.record import RecordError, build_dataclass

SCHEMA_VERSION = 1
OWN = ("attention", "growth", "scaling", "training", "decoding", "startup", "devices")
CONTESTS = ("peers_training", "peers_decoding", "peers_pictures", "peers_recurrent", "overhead")
SUITES = (*OWN, *CONTESTS)
LENGTHS = {"attention": [64, 256, 1024], "growth": [128, 256, 512, 1024, 2048]}
NOT_INSTALLED = "not installed"  # how the error of a row begins whose contender is not there


@dataclass
class Settings:
    """What was asked for."""

    suites: list[str]
    lengths: list[int] | None  # attention, growth: of sequences; null: LENGTHS
    batch: int  # attention, growth: sequences
    heads: int  # attention, growth
    width: int  # attention, growth: of a head's queries, keys and values, and of the additive score's hidden layer
    max_gib: float  # attention, growth: a row that would hold more is left out
    models: list[str] | None  # training, decoding, devices: names in conf/model; null: those of the suite
    data: str | None  # training, devices: a name in conf/data; null: the embedded data of the model's task
    updates: int  # training, devices: measured in each repeat, after `warmup` others
    sentences: int  # decoding
    only: list[str] | None  # peers: rows whose names contain one of these, and this project's; null: all
    seconds: float  # peers: of each turn, at least
    test_sentences: int  # peers: to decode
    checkpoint: str | None  # peers: weights to decode with; null: random ones
    warmup: int  # attention, decoding: repeats that do not count; training: updates
    repeats: int
    dtype: str  # float32, bfloat16 or float16
    device: str  # cpu or cuda
    threads: int | None  # null: what torch chooses


@dataclass
class Row:
    """One thing measured: medians and quartiles over repeats as <key>_p50, _p25 and _p75, and what needs no repeating.

    A unit stands in each key. A row that failed says why, and has no values; what is known without measuring it has.
    """

    group: str  # rows of one group are measured in turns
    name: str
    baseline: str  # the row of the same group that this one is a ratio to, it may be itself; empty: none
    values: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    texts: dict[str, str] = field(default_factory=dict)  # by column: what is known of it without measuring


@dataclass
class Suite:
    """The rows of one suite."""

    name: str
    groups: str  # what a group is: "length", "model"
    notes: list[str]  # what a reader must know
    rows: list[Row]

    def ratio(self, row: Row, key: str) -> float | None:
        """`row`'s value over its baseline's, or None where there is no such value."""
        known = {(other.group, other.name): other.values.get(key) for other in self.rows}
        base, own = known.get((row.group, row.baseline)), row.values.get(key)
        return None if own is None or not base else own / base


@dataclass
class Benchmark:
    """One command's results."""

    schema_version: int
    settings: Settings
    provenance: dict[str, Any]  # identity.provenance
    suites: list[Suite]


def write(benchmark: Benchmark, path: Path) -> None:
    """Write the record, whole or not at all."""
    text = json.dumps(dataclasses.asdict(benchmark), indent=1, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def read(path: Path) -> Benchmark:
    """The record in the file `path`.

    Raises:
        RecordError: unreadable, no JSON, another schema version, or a field missing, unknown or mistyped.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}; expected what --output wrote") from error
    except ValueError as error:
        raise RecordError(f"{path}: not valid JSON: {error}; expected what --output wrote") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordError(f"{path}: schema version {version}; expected a benchmark's, {SCHEMA_VERSION}")
    return build_dataclass(Benchmark, content, str(path))
