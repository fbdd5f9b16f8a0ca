from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.benchmarks.measurement import summarize_samples
from attnbench.benchmarks.results import (
    SCHEMA_VERSION,
    Benchmark,
    Row,
    Settings,
    Suite,
    read_benchmark,
    write_benchmark,
)
from attnbench.benchmarks.table import format_tables
from attnbench.records.identity import collect_provenance
from attnbench.records.record import RecordError


@pytest.fixture
def benchmark(asked: Callable[..., Settings]) -> Benchmark:
    rows = [
        Row("64", "slow", "slow", {**summarize_samples("wait_ms", [30.0, 10.0, 2000.0]), "peak_mib": 8.0}),
        Row("64", "quick", "slow", {**summarize_samples("wait_ms", [2.0, 3.0, 90.0]), "peak_mib": 0.5}),
        Row("64", "broken", "slow", error="RuntimeError: too large"),
        Row("64", "alone", "absent", summarize_samples("wait_ms", [1.0])),
    ]
    return Benchmark(
        SCHEMA_VERSION,
        asked(),
        collect_provenance({}, device="cpu", num_threads=1),
        [Suite("demo", "length", ["Two cats."], rows)],
    )


def test_ratios_are_those_of_medians(benchmark: Benchmark) -> None:
    (suite,) = benchmark.suites
    slow, quick, broken, alone = suite.rows
    assert suite.compute_ratio(quick, "wait_ms_p50") == 3.0 / 30.0
    assert suite.compute_ratio(quick, "peak_mib") == 0.5 / 8.0
    assert suite.compute_ratio(slow, "wait_ms_p50") == 1.0
    assert suite.compute_ratio(broken, "wait_ms_p50") is suite.compute_ratio(alone, "wait_ms_p50") is None


def test_a_record_gives_the_same_table_again(benchmark: Benchmark, tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    write_benchmark(benchmark, path)
    text = format_tables(read_benchmark(path))
    assert text == format_tables(benchmark)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "| 64 | quick | slow | 3.00 [2.50, 46.5] | 0.100 | 0.500 | 0.0625 |" in lines
    assert "| 64 | slow | slow | 30.0 [20.0, 1,015] | 1.00 | 8.00 | 1.00 |" in lines
    assert "| 64 | broken | slow | failed | \N{EN DASH} | failed | \N{EN DASH} |" in lines
    assert "- length 64 broken: RuntimeError: too large" in lines
    assert "- Two cats." in lines
    assert any(line.startswith("- attnbench ") and line.endswith("; float32.") for line in lines)


def test_what_is_known_without_measuring_stands_beside_the_name(benchmark: Benchmark, tmp_path: Path) -> None:
    rows = [
        Row("", "quick", "", {"wait_ms": 2.0}, texts={"operations": "O(n)"}),
        Row("", "plain", "", {"wait_ms": 4.0}),
    ]
    benchmark.suites = [Suite("demo", "", [], rows)]
    write_benchmark(benchmark, tmp_path / "bench.json")
    lines = [" ".join(line.split()) for line in format_tables(read_benchmark(tmp_path / "bench.json")).splitlines()]
    # Rows without a baseline have no ratios.
    assert lines[2] == "| row | operations | wait_ms |"
    assert lines[4:6] == ["| quick | O(n) | 2.00 |", "| plain | \N{EN DASH} | 4.00 |"]
    assert not any("baseline" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 9}, "schema version 9; expected a benchmark's, 2"),
        ({"suites": [{"name": "demo"}]}, "suites[0]: the field group_name is missing"),
    ],
)
def test_a_strange_record_is_refused(benchmark: Benchmark, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "bench.json"
    write_benchmark(benchmark, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RecordError) as caught:
        read_benchmark(path)
    assert str(caught.value) == f"{path}: {said}"
