"""What a run leaves of each of its test sets: scores under the set's name, and the text that they are the scores of."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.metrics.text import compute_bleu, compute_chrf
from attnbench.records.record import read_record
from attnbench.sweeps import plan
from attnbench.training.runner import run_training

from .conftest import Small, compose

NOUNS = ("hund", "mann", "ball", "park")


def write_multi30k(folder: Path) -> None:
    """A few pairs a split, tokenized and not; another test set has other sentences."""
    folder.mkdir(parents=True)
    for place, (name, pairs) in enumerate(
        [("train", 24), ("val", 6), ("test_2016_flickr", 6), ("test_2017_flickr", 5)]
    ):
        english, german = [], []
        for number in range(pairs):
            noun = NOUNS[(number * 3 + place) % 4]
            english.append(f"the {noun} , {'very ' * (number % 3)}big .")
            german.append(f"der {noun} , {'sehr ' * (number % 3)}gross .")
        for language, lines in (("en", english), ("de", german)):
            for infix, text in (
                (".lc.norm.tok", lines),
                ("", [line.replace(" ,", ",").replace(" .", ".") for line in lines]),
            ):
                (folder / f"{name}{infix}.{language}").write_text("".join(f"{line}\n" for line in text))


def test_each_test_set_has_its_scores_and_the_text_they_are_of(tmp_path: Path) -> None:
    write_multi30k(tmp_path / "data" / "multi30k")
    model = ["model.depth=1", "model.d_model=16", "model.d_ff=32", "model.num_heads=2", "task.beam_size=2"]
    config = compose(
        "data=multi30k", "data.tokenizer_type=word", "data.extra_test_sets=[test_2017_flickr]",
        f"paths.data={tmp_path}/data",
        f"paths.cache={tmp_path}/cache", *model, "trainer.max_epochs=2", "trainer.accelerator=cpu",
        "trainer.num_threads=1",
        "logger=none", "callbacks=quiet",
    )  # fmt: skip
    run_training(config, tmp_path / "run", [])
    metrics, outputs = read_record(tmp_path / "run" / "run.json").metrics, tmp_path / "run" / "outputs"
    for stage, sentences in (("test", 6), ("test_2017_flickr", 5)):
        lines = {path.name: path.read_text().splitlines() for path in outputs.glob(f"{stage}.*")}
        assert {len(found) for found in lines.values()} == {sentences}
        said, meant = (lines[f"{stage}.{column}.txt"] for column in ("hypothesis", "reference"))
        tokens = compute_bleu(said, meant, tokenize="none", lowercase=True)
        assert metrics[stage]["bleu_tokenized"] == pytest.approx(tokens.score)
        said, meant = (lines[f"{stage}.detokenized.{column}.txt"] for column in ("hypothesis", "reference"))
        assert meant[0].endswith("gross."), "ordinary text"
        assert metrics[stage]["bleu"] == pytest.approx(compute_bleu(said, meant, lowercase=True).score)
        assert metrics[stage]["chrf"] == pytest.approx(compute_chrf(said, meant, lowercase=True).score)
    assert metrics["test"]["loss"] != metrics["test_2017_flickr"]["loss"]
    assert not list(outputs.glob(".*.tmp"))


def test_a_test_set_is_tested_once() -> None:
    with pytest.raises(ConfigError, match=r"data.extra_test_sets=\[test_2016_flickr\]: expected test_2016_flickr once"):
        plan.compose_run(["data=multi30k", "data.extra_test_sets=[test_2016_flickr]"])


@pytest.mark.parametrize("meant", [2, 5])
def test_an_average_of_fewer_checkpoints_than_meant_is_said_to_be_one(small: Small, tmp_path: Path, meant: int) -> None:
    config = small("trainer.final_weights=average", f"trainer.average_last={meant}")  # four epochs, two validations
    said = [note for note in run_training(config, tmp_path / "run", []).notes if note.startswith("tested:")]
    updates = read_record(tmp_path / "run" / "run.json").metrics["final"]["update"]
    few = f"tested: the mean of all 2 checkpoints, of update {updates // 2} to {updates}, where the last 5 of more were"
    assert [note[: len(few)] for note in said] == [few] * (meant == 5)
