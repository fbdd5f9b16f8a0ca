"""The translate door: a checkpoint, lines in, lines out."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.sweeps.compose import Composer
from attnbench.training.runner import run_training
from attnbench.translate import main

from .tasks.conftest import SMALL


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    composer = Composer()
    parsed, _ = composer.parse([*SMALL["translation"], "callbacks.samples=1", f"paths.cache={folder}/cache"])
    config, faults = composer.compose(parsed)
    assert config is not None, faults
    run_training(config, folder, [])
    return folder


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_a_file_is_translated_as_the_test_set_was(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), str(run / "outputs" / "test.source.txt")]) == 0
    assert capsys.readouterr().out.splitlines() == lines(run / "outputs" / "test.hypothesis.txt")


def test_stdin_keeps_its_lines_and_empty_ones_stay_empty(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lines(run / "outputs" / "test.source.txt")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{source[0]}\n\n   \n{source[1]}\n"))
    assert main([str(run / "model.ckpt")]) == 0
    said = lines(run / "outputs" / "test.hypothesis.txt")
    assert capsys.readouterr().out.splitlines() == [said[0], "", "", said[1]]


SEPARATORS = "\r\x0b\x0c\x1c\x85\u2028\u2029"


@pytest.mark.parametrize("from_stdin", [False, True])
def test_only_line_feeds_part_lines_of_a_file_and_of_stdin(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, from_stdin: bool
) -> None:
    first, second = lines(run / "outputs" / "test.source.txt")[:2]
    raw = f"{first}\r\n\u200b\n{SEPARATORS.join(second.split(' '))}\n".encode()
    (tmp_path / "in.txt").write_bytes(raw)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="ascii"))
    assert main([str(run), *([] if from_stdin else [str(tmp_path / "in.txt")])]) == 0
    said = lines(run / "outputs" / "test.hypothesis.txt")
    assert capsys.readouterr().out.split("\n") == [said[0], "", said[1], ""]


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"one\n\xff\n", "attnbench: stdin:2: invalid UTF-8 (byte 0xff); expected UTF-8 text\n"),
        (b"o\0n\0", "attnbench: stdin:1: a NUL character (U+0000); expected UTF-8 text (is this UTF-16?)\n"),
        (None, "attnbench: stdin: closed; expected sentences there, or a file\n"),
    ],
)
def test_a_stdin_that_cannot_be_read_gets_a_sentence(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, raw: bytes | None, told: str
) -> None:
    monkeypatch.setattr(sys, "stdin", None if raw is None else io.TextIOWrapper(io.BytesIO(raw)))
    assert main([str(run)]) == 2
    assert capsys.readouterr().err == told


def test_pictures_of_what_each_translation_attends_to(run: Path, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("\n".join(["", lines(run / "outputs" / "test.source.txt")[0]]))
    assert main([str(run), str(tmp_path / "two.txt"), "--pictures", str(tmp_path / "maps")]) == 0
    found = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert found == ["cross-1.png", "decoder-1.png", "encoder-1.png"]


def test_references_add_a_column_of_bleu(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = run / "outputs"
    assert main([str(run), str(outputs / "test.source.txt"), "--references", str(outputs / "test.hypothesis.txt")]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {score for text, score in rows if text} == {"1.000"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.ckpt"], "nowhere.ckpt: no such checkpoint"),
        (["{run}", "no-such-file.txt"], "no-such-file.txt"),
        (["{run}", "{run}/outputs/test.source.txt", "--references", "{run}/samples.jsonl"], "lines for 12 sentences"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main([argument.replace("{run}", str(run)) for argument in arguments]) == 2
    found = capsys.readouterr()
    assert told in found.err
    assert found.err.count("\n") == 1
    assert not found.out


def test_it_needs_nothing_but_the_checkpoint(run: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "alone.ckpt"
    checkpoint.write_bytes((run / "model.ckpt").read_bytes())
    source = lines(run / "outputs" / "test.source.txt")[0]
    done = subprocess.run(
        [sys.executable, "-m", "attnbench.translate", str(checkpoint)],
        input=f"{source}\n", capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.stdout.splitlines() == lines(run / "outputs" / "test.hypothesis.txt")[:1]


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "gpu", "mps", "", "cpu:x"])
def test_a_device_that_is_not_there_is_named(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert main([str(run), "--device", device]) == 2
    said = f"attnbench: --device {device}: expected one of cpu, which are what this machine has\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("option", "value", "most"),
    [
        ("--beam-size", "0", 1000),
        ("--beam-size", "-2", 1000),
        ("--beam-size", "1001", 1000),
        ("--beam-size", "many", 1000),
        ("--k", "0", 100),
    ],
)
def test_a_number_out_of_bounds_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str, most: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["model.ckpt", option, value])
    assert ended.value.code == 2
    assert f"argument {option}: expected a whole number from 1 to {most}, not {value!r}" in capsys.readouterr().err


def test_options_may_stand_before_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(run / "outputs" / "test.source.txt")
    assert main([str(run), "--beam-size", "1", source]) == 0
    first = capsys.readouterr().out
    assert main([str(run), source, "--beam-size", "1"]) == 0
    assert capsys.readouterr().out == first
