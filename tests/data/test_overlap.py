"""What validation and test sets have in common with training."""

from __future__ import annotations

from attnbench.data.overlap import count_overlap, describe_overlap


def test_each_side_is_counted_alone() -> None:
    train = {"source": iter("abcd"), "target": iter("wxyz")}
    found = count_overlap(train, {"source": list("aeea"), "target": list("zzvw")})
    assert found == {"examples": 4, "source": 2, "target": 3}


def test_what_is_not_zero_is_described() -> None:
    counts = {"examples": 1000, "source": 1, "target": 600}
    assert describe_overlap({"val": {"examples": 5, "source": 0, "target": 0}, "test": counts}) == [
        "test: of 1,000 examples, 1 source and 600 targets found in the training set"
    ]
    assert describe_overlap({"test": {"examples": 1000, "picture": 2}}) == [
        "test: of 1,000 examples, 2 pictures found in the training set"
    ]
