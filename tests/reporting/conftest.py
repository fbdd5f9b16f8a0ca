"""Records as runs would leave them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from attnbench.records.record import SCHEMA_VERSION, Plan, PlannedRun, Record, Status

MakeRecord = Callable[..., Record]


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {"sweep": {"name": "demo", "table": None}, "trainer": {"devices": 1}}
    for key, value in flat.items():
        *groups, last = key.split(".")
        node = config
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    return config


@pytest.fixture
def make_record() -> MakeRecord:
    """make_record({"model.depth": 2}, seed=1, bleu=30.0): a finished run; any field can be given."""

    def make(flat: dict[str, Any], *, seed: int = 1, bleu: Any = 30.0, **changes: Any) -> Record:
        config = nested({"seed": seed, **flat})
        fields: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "run_id": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12],
            "name": "demo",
            "sweep": "demo",
            "status": Status.finished,
            "config": config,
            "overrides": [],
            "seed": seed,
            "provenance": {"git": None},
            "parameters": {"total": 1234567, "trainable": 1234567},
            "metrics": {"final": {}, "best": {}, "test": {"bleu": bleu}},
            "performance": {"target_tokens_per_sec_global": 9000.0},
            "notes": [],
            "tracker": None,
            "error": None,
            "time": {"started": "2026-01-01T00:00:00+00:00", "ended": None, "train_seconds": 1.0},
        }
        return Record(**(fields | changes))

    return make


@pytest.fixture
def make_plan() -> Callable[[list[Record]], Plan]:
    """A plan of the runs that left these records."""

    def make(records: list[Record]) -> Plan:
        runs = [PlannedRun(record.run_id, [], record.config) for record in records]
        return Plan(SCHEMA_VERSION, "demo", [], runs)

    return make
