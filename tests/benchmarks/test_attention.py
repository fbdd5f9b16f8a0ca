from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from attnbench.benchmarks import device as device_module
from attnbench.benchmarks.attention import (
    AttentionBenchmark,
    AttentionCase,
    AttentionInputs,
    NaiveAdditiveScore,
    list_cases,
    plan_suite,
)
from attnbench.benchmarks.device import MIB, measure_peak_bytes
from attnbench.benchmarks.measurement import measure_suite
from attnbench.benchmarks.results import Settings
from attnbench.config.attention import AttentionConfig, Normalizer, Score
from attnbench.config.position import Position
from attnbench.nn.positions import POSITIONS, RelativePosition
from attnbench.nn.scoring import SCORES, Additive

CPU = torch.device("cpu")


def test_every_registry_entry_has_a_row_with_numbers(
    asked: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_module, "SAMPLE_MS", 0.001)
    rows = measure_suite(plan_suite(asked()), repeats=1, print_progress=lambda said: None)
    assert [row.error for row in rows] == [None] * len(rows)
    assert all(number > 0 for row in rows for number in row.values.values())
    assert {key for row in rows for key in row.values if key.endswith(("_p50", "mib"))} == {
        "forward_ms_p50", "forward_backward_ms_p50", "peak_mib",
    }  # fmt: skip
    names = {row.name for row in rows}
    assert len(names) == len(rows)
    assert {row.baseline for row in rows} <= names
    relative = [p.name for p, kind in POSITIONS.items() if issubclass(kind, RelativePosition)]
    others = [n.name for n in Normalizer if n is not Normalizer.softmax] + relative
    assert {name.rpartition(" ")[0] for name in names} == {s.name for s in Score} | {
        f"scaled_dot {other}" for other in others
    }
    for score, kind in SCORES.items():
        paths = ["fused", "eager"] if kind.is_fusable else ["eager"]
        assert {f"{score.name} {path}" for path in paths} <= names


def test_the_naive_score_is_the_chunked_one() -> None:
    naive, chunked = (kind(6, 6, AttentionConfig(score=Score.additive)) for kind in (NaiveAdditiveScore, Additive))
    naive.load_state_dict(chunked.state_dict())
    q, k = torch.randn(2, 3, 2, 5, 6).unbind()
    torch.testing.assert_close(naive(q, naive.prepare_keys(k)), chunked(q, chunked.prepare_keys(k)))


def test_chunks_keep_the_peak_far_below_that_of_the_naive_score(asked: Callable[..., Settings]) -> None:
    inputs = AttentionInputs.create_random(asked(width=32), length=256)
    additive = AttentionConfig(score=Score.additive)
    chunked, naive = (
        AttentionBenchmark(AttentionCase(additive, is_naive=naive), inputs).measure_memory()["peak_mib"]
        for naive in (False, True)
    )
    hidden_layer = 2 * 256 * 256 * 32 * 4 / MIB
    assert 2 * hidden_layer < naive < 4 * hidden_layer
    assert chunked < naive / 5


def test_peak_counts_what_is_there_at_once() -> None:
    there = torch.zeros(MIB)

    def run() -> None:
        torch.zeros(MIB // 2)  # 2 MiB, gone at once
        held = torch.zeros(MIB // 4)
        torch.add(held, there[: MIB // 4])

    assert measure_peak_bytes(run, CPU) == pytest.approx(2 * MIB, abs=1024)


def test_a_row_too_large_is_left_out_and_said_so(asked: Callable[..., Settings]) -> None:
    found = plan_suite(asked(lengths=[4, 1024], max_gib=0.05))
    lengths: dict[str, list[str]] = {}
    for subject in found.cases:
        lengths.setdefault(subject.name, []).append(subject.group)
    assert {name for name, groups in lengths.items() if groups == ["4"]} == {"additive naive"}
    assert (
        "additive naive is left out at length 1024: it would hold 0.094 GiB, more than --max-gib 0.05." in found.notes
    )
    stay = {subject.name for subject in plan_suite(asked(lengths=[1024], max_gib=0.01)).cases}
    # What holds a number for each query and key, in weights or in a bias, does not.
    kernels = [f"{score.name} fused" for score, kind in SCORES.items() if kind.is_fusable]
    assert stay == {*kernels, "scaled_dot rotary fused"}


def test_what_is_left_out_is_judged_by_what_the_others_hold(asked: Callable[..., Settings]) -> None:
    inputs = AttentionInputs.create_random(asked(), length=512)
    for case in list_cases():
        pairs = 4 * 512**2 / MIB
        held, peak = (
            case.count_held_numbers(2, 4, CPU) * pairs,
            AttentionBenchmark(case, inputs).measure_memory()["peak_mib"],
        )
        if held == 0:
            assert peak < 2 * pairs, case
        elif case.config.normalizer is Normalizer.softmax and case.position is None:
            assert held <= peak < 2 * held + 8, case


def test_a_row_that_cannot_be_built_says_why(asked: Callable[..., Settings]) -> None:
    found = plan_suite(asked(width=3))
    rotary = [subject for subject in found.cases if Position.rotary.name in subject.name]
    (row,) = measure_suite(found._replace(cases=rotary), repeats=1, print_progress=lambda said: None)
    assert row.error == "ValueError: position=rotary: keys of width 3; expected a multiple of 2"
    assert len(list(list_cases())) == len(found.cases)
