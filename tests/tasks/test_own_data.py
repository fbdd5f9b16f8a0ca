"""Runs on the user's own files and pictures: what a record says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from attnbench.data.errors import DataError
from attnbench.data.pairs import DETOKENIZED
from attnbench.data.text_files import write_lines
from attnbench.records.history import read_history as read_history
from attnbench.records.record import read_record
from attnbench.tasks.classification_data import ClassificationData
from attnbench.tasks.translation import score_translations
from attnbench.tasks.translation_data import TranslationData
from attnbench.training.runner import run_training

from .conftest import SMALL, compose


def own_text(folder: Path, *overrides: str, **pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Overrides of a small run on `pairs` by split, written as files."""
    keys = []
    for split, rows in pairs.items():
        for side, column in zip(("source", "target"), zip(*rows, strict=True), strict=True):
            write_lines(folder / f"{split}.{side}", column)
            keys.append(f"data.{split}_{side}={folder / split}.{side}")
    rest = [override for override in SMALL["translation"] if not override.startswith("data.")]
    return [*rest, "data=files", "data.tokenizer_type=word", f"paths.cache={folder}/cache", *keys, *overrides]


def test_sentences_that_training_has_are_counted_recorded_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = [(f"word {n}", f"wort {n} ist hier") for n in range(20)]
    test = [("word 3", "wort 4 ist hier"), ("a word", "wort 5 ist  hier"), ("new word", "ein neues wort hier")]
    run_training(compose(*own_text(tmp_path, train=train, val=[("any", "das ist ein satz")], test=test)), tmp_path, [])
    record = read_record(tmp_path / "run.json")
    assert record.provenance["overlap"] == {
        "val": {"examples": 1, "source": 0, "target": 0},
        "test": {"examples": 3, "source": 1, "target": 2},
    }
    said = "test: of 3 examples, 1 source and 2 targets found in the training set"
    assert said in record.notes
    assert f"attnbench: {said}\n" in capsys.readouterr().err


CHINESE = [
    ("the weather is fine", "今天天气很好"),
    ("we go to the park", "我们去公园散步"),
    ("I like tea", "我喜欢喝绿茶"),
]


def test_bleu_of_a_language_without_spaces_counts_its_characters(tmp_path: Path) -> None:
    record = run_training(compose(*own_text(tmp_path, train=CHINESE, val=CHINESE, test=CHINESE)), tmp_path, [])
    assert "|tok:zh|" in record.metrics["test"]["bleu_signature"]
    perfect = [target for _, target in CHINESE]
    text = TranslationData(compose(*own_text(tmp_path, train=CHINESE, val=CHINESE))).text
    found = {
        name: score_translations(perfect, {DETOKENIZED: perfect}, text, perfect, tokenize=name)
        for name in ("13a", "zh")
    }
    assert found["13a"]["bleu"] == 0
    assert found["zh"]["bleu"] == pytest.approx(100)
    assert found["zh"]["by_source_words"]["1-5"]["bleu"] == pytest.approx(100)


def test_a_bleu_that_is_always_zero_is_noted(tmp_path: Path) -> None:
    own = own_text(tmp_path, "metrics.tokenize=13a", train=CHINESE, val=CHINESE, test=CHINESE)
    notes = TranslationData(compose(*own)).notes
    assert notes[0].startswith("metrics.tokenize=13a finds words between spaces, and the target language (zh) has none")
    assert notes[1:] == [
        f"{name}: no reference has four words by metrics.tokenize=13a, so BLEU is 0 even for perfect translations;"
        " task.monitor=chrf or loss can still choose weights"
        for name in ("val", "test")
    ]


def test_a_tokenizer_that_is_not_installed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnbench.metrics.tokenization.find_spec", lambda name: None)
    japanese = [("the weather is fine", "今日は天気がいいです")]
    with pytest.raises(DataError, match=r'auto chooses ja-mecab .* pip install "sacrebleu\[ja\]"'):
        TranslationData(compose(*own_text(tmp_path, train=japanese, val=japanese)))


@pytest.mark.parametrize("monitor", ["bleu", "chrf", "loss", "accuracy"])
def test_the_metric_that_chooses_weights_can_be_chosen(tmp_path: Path, monitor: str) -> None:
    task = "classification" if monitor == "accuracy" else "translation"
    keys = [
        "trainer.max_epochs=3",
        "trainer.check_val_every_n_epoch=1",
        f"paths.cache={tmp_path}",
        f"task.monitor={monitor}",
    ]
    record = run_training(compose(*SMALL[task], *keys), tmp_path, [])
    values = [entry[f"val/{monitor}"] for entry in read_history(tmp_path) if f"val/{monitor}" in entry]
    assert len(values) == 3
    expected = (min if monitor == "loss" else max)(values)
    assert record.metrics["best"][monitor] == pytest.approx(expected, rel=1e-5)  # a history has fewer digits


def paint(path: Path, color: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(path)


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
    run_training(compose(*own_pictures(tmp_path)), tmp_path / "run", [])
    record = read_record(tmp_path / "run" / "run.json")
    assert record.provenance["overlap"] == {name: {"examples": 5, "picture": 1} for name in ("val", "test")}
    assert "attnbench: val: of 5 examples, 1 picture found in the training set\n" in capsys.readouterr().err


def test_training_on_one_class_of_several_is_noted(tmp_path: Path) -> None:
    for name in "ab":
        paint(tmp_path / "train" / name / "1.png", (0, 0, 0))
    own = own_pictures(tmp_path, "data.val_images=1")
    data = ClassificationData(compose(*own))
    name = data.images.classes[int(data.images.train.labels_N[0])]
    assert data.notes[-1] == f"train: pictures of one class only ({name}): nothing to learn"


def test_a_vocabulary_of_nothing_but_unknown_words_is_refused(tmp_path: Path) -> None:
    pairs = [("a b c", "d e f")]
    with pytest.raises(DataError) as error:
        TranslationData(compose(*own_text(tmp_path, "data.min_frequency=9", train=pairs, val=pairs)))
    assert str(error.value) == (
        "the source vocabulary holds nothing but <pad>, <bos>, <eos>, <unk>: no word occurs data.min_frequency=9 times;"
        " expected a lower data.min_frequency or more text"
    )


def test_a_split_of_unknown_words_is_noted(tmp_path: Path) -> None:
    """The validation set has the Unicode form that training has not."""
    train, val = [("caf\u00e9 " * 5, "\u00e9t\u00e9 " * 5)], [("caf\u00e9 " * 5, "e\u0301te\u0301 " * 5)]
    data = TranslationData(compose(*own_text(tmp_path, train=train, val=val)))
    assert [note for note in data.notes if "<unk>" in note] == [
        f"{name}: 100% of the target tokens are <unk>: words that data.min_frequency and data.vocab_size leave out, or"
        " text in another script or Unicode form than in training"
        for name in ("val", "test")
    ]
