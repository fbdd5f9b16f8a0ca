from __future__ import annotations

from pathlib import Path

import pytest

from attnbench import bench
from attnbench.bench import main
from attnbench.benchmarks import device
from attnbench.benchmarks.attention import list_cases
from attnbench.benchmarks.results import SUITES, read_benchmark
from attnbench.config.attention import Normalizer, Score


def test_measures_and_prints_what_the_record_prints_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")
    monkeypatch.setattr(device, "SAMPLE_MS", 0.001)
    record = tmp_path / "bench.json"
    sizes = ["--lengths=2,3", "--batch=1", "--heads=1", "--width=3", "--warmup=1", "--repeats=1", "--threads=1"]
    # A width of three is no width for rotary: a row that fails, and says so.
    assert main(["attention", "attention", *sizes, "--output", str(record)]) == 1
    printed = capsys.readouterr()
    rows = len(list(list_cases()))
    assert rows >= len(Score) + len(Normalizer)
    lines = ["attention ...", f"length 2: {rows} rows, 1 repeats", f"length 3: {rows} rows, 1 repeats"]
    assert printed.err.splitlines() == lines
    assert "- length 2 scaled_dot rotary fused: ValueError: " in printed.out
    assert read_benchmark(record).settings.lengths == [2, 3]
    assert main(["--render", str(record)]) == 0
    assert capsys.readouterr().out == printed.out
    assert main(["--render", str(record), str(record), "--write", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("# Benchmarks\n")
    assert page.endswith(2 * printed.out)


def test_growth_is_measured_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")
    monkeypatch.setattr(device, "SAMPLE_MS", 0.001)
    sizes = ["--lengths=2,3,4", "--heads=1", "--width=2", "--warmup=1", "--repeats=1", "--threads=1"]
    assert main(["growth", *sizes, "--output", str(tmp_path / "bench.json"), "--draw", str(tmp_path)]) == 0
    assert "| gru " in capsys.readouterr().out
    assert (tmp_path / "growth_step_ms.png").is_file()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["speed"], f"argument SUITE: given speed; expected some of {', '.join(SUITES)}, peers"),
        (["--lengths", "64,0"], "argument --lengths: given 0; expected a whole number of at least 1"),
    ],
)
def test_a_wrong_argument_is_refused(capsys: pytest.CaptureFixture[str], command: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert capsys.readouterr().err.splitlines()[-1] == f"attnbench bench: error: {said}"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["training", "--models", "tinny", "--data", "cats"], ["model=tinny: expected one", "data=cats: expected one"]),
        (["decoding", "--models", "cnn"], ["model=cnn: expected one of recurrent, transformer for"]),
        (["--render", "nowhere.json"], ["nowhere.json: cannot be read: No such file or directory; expected what"]),
    ],
)
def test_what_cannot_be_measured_is_refused_before_torch(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str], said: list[str]
) -> None:
    monkeypatch.setattr(bench, "run_benchmark", lambda *_: pytest.fail("measured"))
    assert main(command) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said)
    for line, begins in zip(lines, said, strict=True):
        assert line.startswith(f"attnbench: {begins}")


def test_no_gpu_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETO_LOG_LEVEL", "99")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["attention", "--device", "cuda", "--output", str(tmp_path / "bench.json")]) == 2
    assert capsys.readouterr().err == "attnbench: --device=cuda: torch finds no GPU here; expected cpu\n"
