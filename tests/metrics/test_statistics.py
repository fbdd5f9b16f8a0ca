from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from attnbench.metrics.statistics import (
    OutputTest,
    compute_detectable_difference,
    compute_mean_interval,
    compute_power,
    correct_with_holm,
    count_pairs_needed,
    is_equivalent,
    mcnemar_test,
    paired_output_test,
    paired_t_test,
    summarize,
)
from attnbench.metrics.text import compute_bleu, compute_chrf


@pytest.mark.parametrize("n", [2, 3, 17])
def test_agrees_with_numpy(n: int) -> None:
    values = np.random.default_rng(n).normal(30, 2, n)
    found = summarize(values.tolist())
    assert found.n == n
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.std == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert found.interval is None, "not asked for"


def test_one_value_tells_of_no_spread() -> None:
    found = summarize([31.0], interval=True)
    assert (found.mean, found.std, found.n, found.interval) == (31.0, None, 1, None)


def test_no_value_has_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one"):
        summarize([])


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0], [3.0, 3.0, 3.0]])
def test_there_is_no_interval_of_too_few_or_of_equals(values: list[float]) -> None:
    assert compute_mean_interval(values) is None


def test_the_interval_is_student_s_and_the_same_in_any_order() -> None:
    # t tables: 4.303 at 2 degrees of freedom, 1.972 at 199
    low, high = compute_mean_interval([29.0, 30.0, 32.0]) or (0.0, 0.0)
    half = 4.303 * np.std([29, 30, 32], ddof=1) / np.sqrt(3)
    assert (low, high) == pytest.approx((91 / 3 - half, 91 / 3 + half), abs=1e-3)
    values = np.random.default_rng(0).normal(30, 2, 200).tolist()
    low, high = compute_mean_interval(values) or (0.0, 0.0)
    assert compute_mean_interval(values[::-1]) == pytest.approx((low, high), rel=1e-12)
    half = 1.972 * np.std(values, ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=1e-3)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_interval_covers_the_mean_as_often_as_it_says(n: int) -> None:
    samples = np.random.default_rng(n).normal(30, 2, (2000, n))
    intervals = [summarize(values, interval=True).interval for values in samples.tolist()]
    covered = [found is not None and found[0] <= 30 <= found[1] for found in intervals]
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("n", [3, 5])
def test_the_interval_of_a_paired_difference_covers_it_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    shared = rng.normal(0, 5, (1000, n))  # what a seed does to both
    ours, theirs = (mean + shared + rng.normal(0, 1, (1000, n)) for mean in (31, 30))
    found = [paired_t_test(a, b).interval for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)]
    assert 0.93 <= np.mean([one is not None and one[0] <= 1 <= one[1] for one in found]) <= 0.97


@pytest.mark.parametrize("n", [2, 3, 6, 9])
def test_the_paired_test_equals_scipys(n: int) -> None:
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(0.7, 1, n), rng.normal(0, 1, n)
    found, expected = paired_t_test(ours.tolist(), theirs.tolist()), stats.ttest_rel(ours, theirs)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.difference == pytest.approx((ours - theirs).mean())
    assert paired_t_test(theirs.tolist(), ours.tolist()).p == pytest.approx(found.p)
    if n >= 3:
        assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
        assert found.interval is not None
        assert (found.interval[0] > 0 or found.interval[1] < 0) is bool(expected.pvalue < 0.05)


def test_pairs_without_a_spread_have_no_p() -> None:
    assert paired_t_test([1.0], [0.0]).p is None
    assert paired_t_test([1.1, 2.1, 3.1], [0.0, 1.0, 2.0]).p is None, "equal up to rounding"
    with pytest.raises(ValueError, match="zip"):
        paired_t_test([1.0, 2.0], [1.0])


@pytest.mark.parametrize(("effect", "n", "comparisons"), [(2.0, 5, 1), (1.0, 10, 1), (1.0, 5, 1), (1.5, 6, 4)])
def test_power_equals_a_simulation(effect: float, n: int, comparisons: int) -> None:
    differences = np.random.default_rng(0).normal(effect, 1, (20_000, n))
    found = stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05 / comparisons
    assert compute_power(effect, 1.0, n, comparisons) == pytest.approx(found.mean(), abs=0.015)


def test_the_seeds_needed_and_the_detectable_difference_belong_together() -> None:
    assert count_pairs_needed(1.0, 1.0) == 10
    assert compute_detectable_difference(1.0, 10) == pytest.approx(1.0, abs=0.01)
    assert count_pairs_needed(2.0, 2.0, 5) == count_pairs_needed(1.0, 1.0, 5)
    assert count_pairs_needed(0.001, 1.0) is None
    assert compute_detectable_difference(1.0, 2, 10) > 50, "two seeds find only huge differences"
    for n in (3, 5, 20):
        assert compute_power(compute_detectable_difference(2.0, n, 3), 2.0, n, 3) == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("difference", "share"), [(0.0, 0.6), (1.0, 0.0)])
def test_equivalence_is_found_if_the_difference_is_small(difference: float, share: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(difference, 0.8, (500, 10)).tolist()
    found = np.mean([is_equivalent(paired_t_test(one, [0.0] * 10), 1.0) for one in values])
    assert found >= share if difference < 1 else found <= 0.08, "at the margin at most 5 % are called the same"


def test_holm_is_as_in_the_textbook() -> None:
    assert correct_with_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx(
        [0.03, 0.06, 0.06, 0.02]
    )  # R: p.adjust(p, "holm")
    assert correct_with_holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert correct_with_holm([]) == []


def test_mcnemar_looks_only_at_what_one_alone_gets_right() -> None:
    ours, theirs = [True] * 9 + [False] + [True] * 50, [False] * 9 + [True] + [True] * 50
    assert mcnemar_test(ours, theirs) == pytest.approx(2 * 11 / 2**10)  # two-sided binomial of 9 in 10
    assert mcnemar_test(theirs, ours) == pytest.approx(2 * 11 / 2**10)
    assert mcnemar_test([True, False], [True, False]) == 1.0


def systems(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """References and two systems' outputs, as files too: ref, a and b."""
    rng, said = random.Random(1), "der die das Hund Katze läuft sieht schläft , . im Park heute"
    words = said.split()
    references = [" ".join(rng.choices(words, k=rng.randint(6, 14))) for _ in range(60)]
    first, second = (
        [" ".join(w if rng.random() < right else rng.choice(words) for w in line.split()) for line in references]
        for right in (0.8, 0.86)
    )
    for name, lines in (("ref", references), ("a", first), ("b", second)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return references, first, second


@pytest.mark.parametrize(
    ("test", "flag"), [(OutputTest.bootstrap, "--paired-bs"), (OutputTest.randomization, "--paired-ar")]
)
def test_p_values_are_those_of_sacrebleu_s_own_command_line(tmp_path: Path, test: OutputTest, flag: str) -> None:
    references, first, second = systems(tmp_path)
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "a", "b", flag, "-m", "bleu", "--format", "json"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    said = json.loads(told)[1]["BLEU"]
    signature = compute_bleu(second, references).signature
    (score, other), p = paired_output_test(second, first, references, signature, test)
    assert p == pytest.approx(said["p_value"], abs=1e-12)
    assert score == pytest.approx(said["score"], abs=1e-9)
    assert other == pytest.approx(compute_bleu(first, references).score, abs=1e-9)


def test_the_signature_says_what_is_tested(tmp_path: Path) -> None:
    references, first, second = systems(tmp_path)
    for lowercase in (True, False):
        for found in (
            compute_chrf(second, references, lowercase=lowercase),
            compute_bleu(second, references, tokenize="none", lowercase=lowercase),
        ):
            (score, _), p = paired_output_test(second, first, references, found.signature, OutputTest.bootstrap)
            assert score == pytest.approx(found.score, abs=1e-9)
            assert 0 < p < 0.1
