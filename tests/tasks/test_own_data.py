"""Runs on the user's own files and pictures: what a record says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from attnbench.data.text_files import write_lines
from attnbench.record import read
from attnbench.tasks.run import execute

from .conftest import SMALL, compose


def own_text(folder: Path, *overrides: str, **pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Overrides of a small run on `pairs` by split, written as files."""
    keys = []
    for split, rows in pairs.items():
        for side, column in zip(("source", "target"), zip(*rows, strict=True), strict=True):
            write_lines(folder / f"{split}.{side}", column)
            keys.append(f"data.{split}_{side}={folder / split}.{side}")
    rest = [override for override in SMALL["translation"] if not override.startswith("data.")]
    return [*rest, "data=files", "data.segmenter=word", f"paths.cache={folder}/cache", *keys, *overrides]


def test_sentences_that_training_has_are_counted_recorded_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [(f"word {n}", f"wort {n} ist hier") for n in range(20)]
    test = [("word 3", "wort 4 ist hier"), ("a word", "wort 5 ist  hier"), ("new word", "ein neues wort hier")]
    execute(compose(*own_text(tmp_path, train=train, val=[("any", "das ist ein satz")], test=test)), tmp_path, [])
    record = read(tmp_path / "run.json")
    assert record.provenance["overlap"] == {
        "val": {"examples": 1, "source": 0, "target": 0},
        "test": {"examples": 3, "source": 1, "target": 2},
    }
    said = "test: of 3 examples, 1 source and 2 targets found in the training set"
    assert said in record.notes
    assert f"attnbench: {said}\n" in capsys.readouterr().err


def paint(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


def own_pictures(folder: Path, *overrides: str) -> list[str]:
    """Overrides of a small run on the pictures in `folder`."""
    rest = [override for override in SMALL["classification"] if not override.startswith("data.")]
    return [*rest, "data=image_folder", "data.image_size=8", f"data.folder={folder}", *overrides]


def test_pictures_that_training_has_are_counted_recorded_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in range(4):
        paint(tmp_path / "train" / "ab"[level % 2] / f"{level}.png", (level, 0, 0))
        paint(tmp_path / "val" / "ab"[level % 2] / f"{level}.png", (level, 9, 0))
    paint(tmp_path / "val" / "b" / "same.png", (0, 0, 0))
    execute(compose(*own_pictures(tmp_path)), tmp_path / "run", [])
    record = read(tmp_path / "run" / "run.json")
    assert record.provenance["overlap"] == {name: {"examples": 5, "picture": 1} for name in ("val", "test")}
    assert "attnbench: val: of 5 examples, 1 picture found in the training set\n" in capsys.readouterr().err
