"""A search is told of each validation once, and its word ends the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from attnbench.training.callbacks.pruning import Pruned, PruningCallback


def trainer(epoch: int, *, rank: int = 0, fn: str = "fit", other: bool = False) -> Any:
    strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision or other)
    return SimpleNamespace(
        state=SimpleNamespace(fn=fn),
        sanity_checking=False,
        current_epoch=epoch,
        is_global_zero=rank == 0,
        strategy=strategy,
    )


def module(**report: Any) -> Any:
    return SimpleNamespace(report={"bleu": 12.5, "loss": 2.0, **report}, monitor="val/bleu")


def test_validations_are_told_and_the_answer_ends_the_run() -> None:
    told: list[tuple[int, float]] = []

    def report(epoch: int, value: float) -> bool:
        told.append((epoch, value))
        return epoch == 3

    callback = PruningCallback(None, report)
    callback.on_validation_end(trainer(0), module())
    callback.on_validation_end(trainer(1, fn="validate"), module())
    callback.on_validation_end(trainer(1), module(bleu=float("nan")))
    with pytest.raises(Pruned, match=r"^bleu 12.5 at epoch 3, where other runs of the search are better$"):
        callback.on_validation_end(trainer(2), module())
    assert told == [(1, 12.5), (3, 12.5)]


def test_the_first_rank_alone_tells_and_all_end() -> None:
    callback = PruningCallback("val/loss", lambda epoch, value: pytest.fail("told twice"))
    callback.on_validation_end(trainer(0, rank=1), module())
    with pytest.raises(Pruned, match="loss 2 at epoch 1"):
        callback.on_validation_end(trainer(0, rank=1, other=True), module())


def test_a_metric_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"hydra.sweeper.metric=bleurt: a validation tells bleu, loss"):
        PruningCallback("bleurt", lambda epoch, value: False).on_validation_end(trainer(0), module())
