from __future__ import annotations

from attnbench.benchmarks.measurement import BenchmarkCase, SuitePlan, measure_suite


def test_rows_of_a_group_take_turns_and_warm_up() -> None:
    order: list[str] = []

    def sampling(name: str) -> BenchmarkCase:
        def sample() -> dict[str, float]:
            order.append(name)
            return {"wait_ms": float(len(order))}

        return BenchmarkCase("x" if name in "AB" else "y", name, "A", sample, lambda: {"peak_mib": 7.0})

    told: list[str] = []
    rows = measure_suite(SuitePlan("length", [], [sampling(name) for name in "ABC"], warmup=1), 3, told.append)
    assert "".join(order) == "AB" + "ABABAB" + "CCCC"
    assert told == ["length x: 2 rows, 3 repeats", "length y: 1 rows, 3 repeats"]
    # A's samples that count are the third, fifth and seventh of all.
    assert rows[0].values == {"wait_ms_p50": 5.0, "wait_ms_p25": 4.0, "wait_ms_p75": 6.0, "peak_mib": 7.0}


def test_a_row_that_fails_says_why_and_the_others_go_on() -> None:
    calls: list[int] = []

    def fails() -> dict[str, float]:
        calls.append(len(calls))
        if len(calls) == 2:
            raise RuntimeError("too large\nand more of it")
        return {"wait_ms": 1.0}

    subjects = [BenchmarkCase("", "bad", "good", fails), BenchmarkCase("", "good", "good", lambda: {"wait_ms": 2.0})]
    bad, good = measure_suite(SuitePlan("", [], subjects, warmup=0), 3, lambda said: None)
    assert (bad.values, bad.error) == ({}, "RuntimeError: too large")
    assert len(calls) == 2
    assert good.values["wait_ms_p50"] == 2.0
