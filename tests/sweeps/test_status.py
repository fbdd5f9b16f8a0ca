"""The status of a sweep whose records are damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnbench.records.lifecycle import create_record
from attnbench.records.record import Plan, PlannedRun, Status, write_record
from attnbench.sweeps.plan import compose_run
from attnbench.sweeps.status import format_status


@pytest.mark.parametrize("time", [{}, {"train_seconds": None}, {"train_seconds": []}])
def test_a_record_without_its_seconds_is_told_without_them(tmp_path: Path, time: dict[str, Any]) -> None:
    record = create_record(compose_run([]), [])
    record.status, record.time = Status.finished, time
    write_record(record, tmp_path / record.run_id)
    write_record(Plan(2, "small", [], [PlannedRun(record.run_id, ["seed=1"], {})]), tmp_path)
    assert format_status(tmp_path).splitlines()[0].split() == ["1", record.run_id, "finished", "seed=1"]
