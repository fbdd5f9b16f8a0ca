"""Record of a benchmark: what was measured, and on what machine; tables are made from it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnbench.data.text_files import write_atomically
from attnbench.records.record import RecordError, build_dataclass

SCHEMA_VERSION = 2
OWN_SUITES = ("attention", "growth", "scaling", "training", "decoding", "startup", "devices")
PEER_SUITES = ("peers_training", "peers_decoding", "peers_pictures", "peers_recurrent", "overhead")
SUITES = (*OWN_SUITES, *PEER_SUITES)
DEFAULT_LENGTHS = {"attention": [64, 256, 1024], "growth": [128, 256, 512, 1024, 2048]}
NOT_INSTALLED = "not installed"  # start of the error of a row whose peer is not installed


@dataclass
class Settings:
    """Options of the command."""

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
    """Measured row: medians and quartiles over repeats (<key>_p50, _p25, _p75), and numbers that are measured once.

    Each key ends in a unit. A failed row has an error and no values.
    """

    group: str  # rows of one group are measured in turns
    name: str
    baseline: str  # row of the same group that ratios refer to (possibly this one); empty: none
    values: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    texts: dict[str, str] = field(default_factory=dict)  # text by column, known without measuring


@dataclass
class Suite:
    """Rows of one suite."""

    name: str
    group_name: str  # kind of the groups: "length", "model"
    notes: list[str]  # notes below the table
    rows: list[Row]

    def compute_ratio(self, row: Row, key: str) -> float | None:
        """Compute a row's value divided by its baseline's; None if one of them is missing.

        Args:
            row: the row.
            key: name of the number.
        """
        known = {(other.group, other.name): other.values.get(key) for other in self.rows}
        base, own = known.get((row.group, row.baseline)), row.values.get(key)
        return None if own is None or not base else own / base


@dataclass
class Benchmark:
    """Results of one command."""

    schema_version: int
    settings: Settings
    provenance: dict[str, Any]  # identity.provenance
    suites: list[Suite]


def write_benchmark(benchmark: Benchmark, path: Path) -> None:
    """Write a record atomically."""
    text = json.dumps(dataclasses.asdict(benchmark), indent=1, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def read_benchmark(path: Path) -> Benchmark:
    """Read a record.

    Raises:
        RecordError: the file cannot be read, is not JSON, has another schema version, or has a missing, unknown or
            mistyped field.
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
