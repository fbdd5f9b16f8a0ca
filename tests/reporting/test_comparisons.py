from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from attnbench.metrics.statistics import (
    OutputTest,
    correct_with_holm,
    mcnemar_test,
    paired_output_test,
    paired_t_test,
)
from attnbench.metrics.text import compute_bleu, detokenize
from attnbench.records.record import Record, RecordError, write_record
from attnbench.reporting.tables import SweepResults, read_sweep_results
from attnbench.table import main
from attnbench.tasks import results

MakeRecord = Callable[..., Record]
LAYOUT = """
title: Norms
rows: [{key: model.norm_placement, label: norm}]
columns: [{key: METRIC, label: score, best: max}]
baseline: {model.norm_placement: post}
"""
WORDS = ["ein", "mann", "und", "eine", "frau", ",", "die", "lesen", "im", "park", "."]


def source_of(folder: Path, metric: str = "metrics.test.bleu") -> SweepResults:
    (folder / "exp" / "demo").mkdir(parents=True, exist_ok=True)
    (folder / "exp" / "demo" / "table.yaml").write_text(LAYOUT.replace("METRIC", metric))
    return read_sweep_results(folder / "demo", folder / "exp")


def keep(record: Record, folder: Path, **texts: list[str]) -> None:
    """The record, and what a run leaves of its test set."""
    write_record(record, folder / "demo" / record.run_id)
    outputs = folder / "demo" / record.run_id / "outputs"
    outputs.mkdir()
    for name, lines in texts.items():
        (outputs / f"test.{name.replace('_', '.')}.txt").write_text("".join(f"{line}\n" for line in lines))


def translations(right: float, seed: int) -> tuple[list[str], list[str]]:
    """Tokenized references and translations of them."""
    text, noise = random.Random(0), random.Random(seed)
    references = [" ".join(text.choices(WORDS, k=9)) for _ in range(50)]
    said = [" ".join(w if noise.random() < right else noise.choice(WORDS) for w in r.split()) for r in references]
    return references, said


def columns_of(source: SweepResults) -> dict[str, list[str]]:
    table = source.build_comparisons()
    return {column.key: [row.cells[at].value for row in table.rows] for at, column in enumerate(table.columns)}


def leave_translations(make_record: MakeRecord, folder: Path, norm: str, right: float, seed: int) -> list[str]:
    """A run of tokenized text, scored as ordinary text; returns its ordinary hypotheses."""
    references, said = translations(right, seed * 100 + len(norm))
    plain, meant = detokenize(said, "de"), detokenize(references, "de")
    found = compute_bleu(plain, meant)
    test = {"bleu": found.score, "bleu_signature": found.signature}
    record = make_record({"model.norm_placement": norm}, seed=seed, metrics={"final": {}, "best": {}, "test": test})
    keep(record, folder, hypothesis=said, reference=references, detokenized_hypothesis=plain,
         detokenized_reference=meant)  # fmt: skip
    return plain


def test_outputs_are_tested_by_sacrebleu_in_the_form_that_is_scored(make_record: MakeRecord, tmp_path: Path) -> None:
    said = {
        (norm, seed): leave_translations(make_record, tmp_path, norm, right, seed)
        for norm, right in (("post", 0.7), ("pre", 0.85), ("none", 0.72))
        for seed in (1, 2)
    }
    meant = detokenize(translations(0, 0)[0], "de")
    signature = compute_bleu(meant, meant).signature
    expected = [
        max(
            paired_output_test(said[norm, s], said["post", s], meant, signature, OutputTest.bootstrap)[1]
            for s in (1, 2)
        )
        for norm in ("none", "pre")
    ]
    found = columns_of(source_of(tmp_path))
    signs = [
        {compute_bleu(said[norm, s], meant).score > compute_bleu(said["post", s], meant).score for s in (1, 2)}
        for norm in ("none", "pre")
    ]
    # Seeds that disagree are a comparison that was made: it counts in the correction as p = 1.
    counted = correct_with_holm([p if len(sign) == 1 else 1.0 for p, sign in zip(expected, signs, strict=True)])
    assert found["p_bootstrap"] == [
        f"{p:.4f}" if len(sign) == 1 else "sign differs between seeds" for p, sign in zip(counted, signs, strict=True)
    ]
    assert "p_mcnemar" not in found
    scores = {(norm, s): compute_bleu(said[norm, s], meant).score for norm in ("none", "pre", "post") for s in (1, 2)}
    over_seeds = [
        paired_t_test([scores[norm, s] for s in (1, 2)], [scores["post", s] for s in (1, 2)]).p or 1.0
        for norm in ("none", "pre")
    ]
    assert found["p_seeds"] == [f"{p:.4f}" for p in correct_with_holm(over_seeds)]


def test_characters_that_split_lines_elsewhere_do_not_split_outputs(make_record: MakeRecord, tmp_path: Path) -> None:
    references, _ = translations(0, 0)
    references[0] = references[0].replace(" ", "\r", 1)
    references[1] = references[1].replace(" ", "\u2028", 1)
    for norm, right in (("post", 0.7), ("pre", 0.85)):
        _, said = translations(right, len(norm))
        found = compute_bleu(said, references)
        test = {"bleu": found.score, "bleu_signature": found.signature}
        record = make_record({"model.norm_placement": norm}, metrics={"final": {}, "best": {}, "test": test})
        write_record(record, tmp_path / "demo" / record.run_id)
        results.TestResult("test", test, {"hypothesis": said, "reference": references}).write_outputs(
            tmp_path / "demo" / record.run_id
        )
    found_columns = columns_of(source_of(tmp_path))
    assert float(found_columns["p_bootstrap"][0]) <= 1
    assert float(found_columns["p_randomization"][0]) <= 1


def test_classifications_are_tested_by_mcnemar(make_record: MakeRecord, tmp_path: Path) -> None:
    labels = ["boot", "bag"] * 30
    wrong = {"post": set(range(12)), "pre": {1}}
    for norm, places in wrong.items():
        guesses = ["hat" if place in places else label for place, label in enumerate(labels)]
        test = {"accuracy": 100 * (60 - len(places)) / 60}
        record = make_record({"model.norm_placement": norm}, metrics={"final": {}, "best": {}, "test": test})
        keep(record, tmp_path, reference=labels, hypothesis=guesses)
    found = columns_of(source_of(tmp_path, "metrics.test.accuracy"))
    right = [[place not in wrong[norm] for place in range(60)] for norm in ("pre", "post")]
    assert found == {
        "difference": ["+18.33"],
        "p_seeds": ["only one common seed"],
        "p_mcnemar": [f"{mcnemar_test(*right):.4f}"],
    }


def test_a_comparison_counts_in_the_correction_if_and_only_if_it_was_made(
    make_record: MakeRecord, tmp_path: Path
) -> None:
    seeds = {"post": range(1, 8), "pre": range(1, 8), "none": [1], "sandwich": [99]}
    for norm, chosen in seeds.items():
        for seed in chosen:
            gain = 1 + 0.1 * (seed % 3) if norm == "pre" else 0.0
            record = make_record({"model.norm_placement": norm}, seed=seed, bleu=30 + gain + 0.01 * seed)
            write_record(record, tmp_path / "demo" / record.run_id)
    found = columns_of(source_of(tmp_path))
    p = paired_t_test([1 + 0.1 * (seed % 3) for seed in range(1, 8)], [0.0] * 7).p
    assert p is not None
    assert found["p_seeds"] == ["only one common seed", f"{2 * p:.4f}", "no seed in common"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda outputs: (outputs / "test.hypothesis.txt").unlink(), "no outputs kept"),
        (lambda outputs: (outputs / "test.reference.txt").write_text("hat\n"), "different test sets"),
        (
            lambda outputs: (outputs / "test.hypothesis.txt").write_text("hat\nhat\n"),
            "outputs do not match the recorded score",
        ),
        (lambda outputs: (outputs / "test.hypothesis.txt").write_bytes(b"\xff\n"), "outputs cannot be read"),
    ],
)
def test_outputs_that_are_not_the_score_s_say_so(
    make_record: MakeRecord, tmp_path: Path, spoil: Callable[[Path], Any], reason: str
) -> None:
    for norm in ("post", "pre"):
        record = make_record(
            {"model.norm_placement": norm}, metrics={"final": {}, "best": {}, "test": {"accuracy": 100.0}}
        )
        keep(record, tmp_path, reference=["boot", "bag"], hypothesis=["boot", "bag"])
    source = source_of(tmp_path, "metrics.test.accuracy")
    assert columns_of(source)["p_mcnemar"] == ["1.0000"]
    spoil(tmp_path / "demo" / record.run_id / "outputs")
    assert columns_of(source)["p_mcnemar"] == [reason]


def test_nothing_to_compare_is_one_sentence(
    make_record: MakeRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(make_record({"model.norm_placement": "pre"}), tmp_path / "demo" / "a")
    assert main(["demo", "--output", str(tmp_path), "--experiments", str(tmp_path), "--compare"]) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/demo/table.yaml: baseline: expected config keys and values of the row to compare others"
        " with\n"
    )
    source = source_of(tmp_path)
    source.layout.columns.clear()
    with pytest.raises(RecordError, match=r"no row has model\.norm_placement=post"):
        source.build_comparisons()


def test_the_door_prints_and_writes_comparisons_effects_and_traces(
    make_record: MakeRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for norm in ("post", "pre"):
        write_record(make_record({"model.norm_placement": norm}), tmp_path / "demo" / norm)
    source_of(tmp_path)
    command = ["demo", "--output", str(tmp_path), "--experiments", str(tmp_path / "exp")]
    for what, file in (("--compare", "comparisons.md"), ("--effects", "effects.md"), ("--trace", "table.md")):
        assert main([*command, what]) == 0
        assert capsys.readouterr().out.startswith((tmp_path / "demo" / file).read_text(encoding="utf-8"))
    assert main(["--all", *command[1:]]) == 0
    assert capsys.readouterr().out == (tmp_path / "demo" / "table.md").read_text(encoding="utf-8")
    with pytest.raises(RecordError, match="no records"):
        read_sweep_results(tmp_path / "nothing", tmp_path)
    assert main(["--all", "--output", str(tmp_path / "nothing")]) == 2
    assert main([]) == 2
    assert "expected a sweep's name, or --all" in capsys.readouterr().err
