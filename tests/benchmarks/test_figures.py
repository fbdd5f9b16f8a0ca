from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from attnbench.bench import main
from attnbench.benchmarks.figures import build_plots, draw_figures
from attnbench.benchmarks.measurement import summarize_samples
from attnbench.benchmarks.results import SCHEMA_VERSION, Benchmark, Row, Settings, Suite, write_benchmark
from attnbench.records.identity import collect_provenance


def benchmark(settings: Settings, *lengths: int) -> Benchmark:
    rows = [
        row
        for length in lengths
        for row in (
            Row(
                str(length),
                "slow",
                "slow",
                {**summarize_samples("wait_ms", [3.0 * length, length, length]), "peak_mib": 8.0},
            ),
            Row(str(length), "broken", "slow", error="RuntimeError: too large"),
        )
    ]
    rows.append(Row(str(lengths[0]), "short $alone", "slow", summarize_samples("wait_ms", [2.0])))
    suites = [
        Suite("demo", "length", ["Two cats."], rows),
        Suite("other", "model", [], [Row("rnn", "a", "a", {"b": 1.0})]),
    ]
    return Benchmark(SCHEMA_VERSION, settings, collect_provenance({}, device="cpu", num_threads=1), suites)


def test_medians_stand_at_their_lengths_and_what_failed_breaks_the_line(
    asked: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = benchmark(asked(), 256, 64)
    time, memory = build_plots(measured)
    found = {line.label: [(p.x, p.summary and p.summary.mean, p.missing) for p in line.points] for line in time.lines}
    assert found["slow"] == [(64.0, 64.0, ""), (256.0, 256.0, "")]
    assert found["broken"] == [(length, None, "RuntimeError: too large") for length in (64.0, 256.0)]
    assert found["short $alone"] == [(64.0, None, "left out"), (256.0, 2.0, "")]
    assert (time.y_label, memory.y_label) == ("wait_ms", "peak_mib")
    assert time.notes[1] == "Two cats."
    write_benchmark(measured, tmp_path / "bench.json")
    assert main(["--render", str(tmp_path / "bench.json"), "--draw", str(tmp_path / "new")]) == 0
    files = [
        tmp_path / "new" / f"demo_{name}" for name in ("wait_ms.pdf", "wait_ms.png", "peak_mib.pdf", "peak_mib.png")
    ]
    assert capsys.readouterr().err == f"drawn: {' '.join(map(str, files))}\n"
    assert all(file.is_file() for file in files)


def test_one_length_is_no_curve(asked: Callable[..., Settings]) -> None:
    assert not list(build_plots(benchmark(asked(), 64)))


def test_sizes_of_a_row_are_a_curve_with_its_exponent(asked: Callable[..., Settings], tmp_path: Path) -> None:
    values = {"step_ms_exponent_p50": 1.996, "peak_mib_exponent": 0.5}
    values |= {f"step_ms_at_{n}_tokens{end}": 1.0 * n for n in (8, 16) for end in ("_p50", "_p25", "_p75")}
    values |= {f"peak_mib_at_{n}_tokens": n + 1.0 for n in (8, 16)}
    rows = [Row("", "gru", "", values), Row("", "short", "", {"step_ms_at_8_tokens_p50": 3.0})]
    measured = benchmark(asked(), 8)
    measured.suites = [Suite("growth", "", ["Two cats."], rows)]
    time, memory = build_plots(measured)
    assert (time.layout.name, time.x_label, time.y_label, time.legend) == (
        "growth_step_ms", "tokens", "step_ms", "row: exponent",
    )  # fmt: skip
    found = {line.label: [(p.x, p.summary and p.summary.mean, p.missing) for p in line.points] for line in time.lines}
    assert found == {
        "gru: 2.00": [(8.0, 8.0, ""), (16.0, 16.0, "")],
        "short": [(8.0, 3.0, ""), (16.0, None, "left out")],
    }
    assert [line.label for line in memory.lines] == ["gru: 0.50"]
    assert [path.name for path in draw_figures(measured, tmp_path)] == [
        f"growth_{name}" for name in ("step_ms.pdf", "step_ms.png", "peak_mib.pdf", "peak_mib.png")
    ]
