from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.bench import main
from attnbench.benchmark.figures import by_length
from attnbench.benchmark.measuring import spread
from attnbench.benchmark.results import SCHEMA_VERSION, Benchmark, Row, Settings, Suite, write
from attnbench.identity import provenance


def benchmark(settings: Settings, *lengths: int) -> Benchmark:
    rows = [
        row
        for length in lengths
        for row in (
            Row(str(length), "slow", "slow", {**spread("wait_ms", [3.0 * length, length, length]), "peak_mib": 8.0}),
            Row(str(length), "broken", "slow", error="RuntimeError: too large"),
        )
    ]
    rows.append(Row(str(lengths[0]), "short $alone", "slow", spread("wait_ms", [2.0])))
    suites = [
        Suite("demo", "length", ["Two cats."], rows),
        Suite("other", "model", [], [Row("rnn", "a", "a", {"b": 1.0})]),
    ]
    return Benchmark(SCHEMA_VERSION, settings, provenance({}, device="cpu", threads=1), suites)


def test_medians_stand_at_their_lengths_and_what_failed_breaks_the_line(
    asked: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = benchmark(asked(), 256, 64)
    time, memory = by_length(measured)
    found = {line.label: [(p.at, p.summary and p.summary.mean, p.missing) for p in line.points] for line in time.lines}
    assert found["slow"] == [(64.0, 64.0, ""), (256.0, 256.0, "")]
    assert found["broken"] == [(length, None, "RuntimeError: too large") for length in (64.0, 256.0)]
    assert found["short $alone"] == [(64.0, None, "left out"), (256.0, 2.0, "")]
    assert (time.y_label, memory.y_label) == ("wait_ms", "peak_mib")
    assert time.notes[1] == "Two cats."
    write(measured, tmp_path / "bench.json")
    assert main(["--render", str(tmp_path / "bench.json"), "--draw", str(tmp_path / "new")]) == 0
    files = [
        tmp_path / "new" / f"demo_{name}" for name in ("wait_ms.pdf", "wait_ms.png", "peak_mib.pdf", "peak_mib.png")
    ]
    assert capsys.readouterr().err == f"drawn: {' '.join(map(str, files))}\n"
    assert all(file.is_file() for file in files)


def test_one_length_is_no_curve(asked: Callable[..., Settings]) -> None:
    assert not list(by_length(benchmark(asked(), 64)))
