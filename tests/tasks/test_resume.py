"""A run that was stopped and gone on with ends bit for bit where one that was not ends."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbench import history, interrupts
from attnbench.callbacks.checkpoints import LAST
from attnbench.callbacks.resumable import Interrupted
from attnbench.config import Config
from attnbench.record import Record, Status, read, write
from attnbench.sweep.records import new_record
from attnbench.tasks import run
from attnbench.tasks.build import TASKS
from attnbench.tasks.run import MODEL, execute

from .conftest import Small


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / MODEL, weights_only=True)["state_dict"]
    return state


def stop_at(monkeypatch: pytest.MonkeyPatch, config: Config, step: str, count: int, number: signal.Signals) -> None:
    """Send this process a signal in the `count`-th call of a step of the task."""
    calls = 0
    task_type = TASKS[type(config.task)][0]
    original = getattr(task_type, step)

    def signalling(self: object, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), number)
        return original(self, *args)

    monkeypatch.setattr(task_type, step, signalling)


def assert_same(record: Record, folder: Path, other: Record, other_folder: Path) -> None:
    assert record.status is other.status is Status.finished
    assert record.metrics == other.metrics
    assert curves(folder) == curves(other_folder)
    assert len(curves(folder)) > 1
    for name, tensor in weights(folder).items():
        assert torch.equal(tensor, weights(other_folder)[name]), name


def curves(folder: Path) -> list[dict[str, float]]:
    """The history, but for the clock."""
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history.read(folder)]


@pytest.mark.parametrize(
    ("task", "step", "count", "final", "accumulated"),
    [
        ("translation", "training_step", 3, "best", False),
        ("translation", "training_step", 6, "average", True),
        ("translation", "training_step", 7, "average", True),  # in the middle of an accumulated update
        ("translation", "training_step", 8, "best", True),
        ("translation", "training_step", 11, "last", True),
        ("translation", "training_step", 11, "average", False),
        ("translation", "validation_step", 1, "best", False),
        ("translation", "test_step", 1, "last", True),
        ("translation", "test_step", 1, "best", False),
        ("recurrent", "training_step", 5, "best", False),
        ("classification", "training_step", 3, "best", False),
        ("classification", "training_step", 9, "last", True),
        ("classification", "test_step", 2, "average", False),
    ],
)
def test_interrupted_and_resumed_is_bit_identical(
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    step: str,
    count: int,
    final: str,
    accumulated: bool,
) -> None:
    share = 15 if task == "classification" else 128
    config = small(
        f"trainer.final_weights={final}",
        "trainer.average_last=2",
        "logger.every_steps=2",
        *(["task.decode_tokens=128"] * (task != "classification")),
        *([f"trainer.micro_batch={share}"] * accumulated),
        task=task,
    )
    undisturbed = execute(config, tmp_path / "a", [])
    with monkeypatch.context() as patch:
        stop_at(patch, config, step, count, signal.SIGINT if count % 2 else signal.SIGTERM)
        with pytest.raises(Interrupted):
            execute(config, tmp_path / "b", [])
    stopped = read(tmp_path / "b" / "run.json")
    assert stopped.status is Status.interrupted
    assert stopped.error is not None
    assert "stopped by SIG" in stopped.error["message"]
    assert (tmp_path / "b" / LAST).is_file() or step == "validation_step"
    resumed = execute(config, tmp_path / "b", [])
    assert_same(resumed, tmp_path / "b", undisturbed, tmp_path / "a")


@pytest.mark.parametrize("step", ["training_step", "test_step"])
@pytest.mark.parametrize("numbers", [(signal.SIGHUP,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_every_signal_is_recorded_as_the_first_that_came(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, numbers: tuple[signal.Signals, ...]
) -> None:
    """A second one does not wait for the update, and is not taken for another; Lightning would end with status 1."""
    config = small("trainer.max_epochs=1", "trainer.validate_every_epochs=1", "task.decode_tokens=128")
    for number in reversed(numbers):  # the one that is patched in last comes first
        stop_at(monkeypatch, config, step, 1, number)
    with pytest.raises(Interrupted) as stopped:
        execute(config, tmp_path, [])
    assert stopped.value.code == 128 + numbers[0]
    record = read(tmp_path / "run.json")
    assert record.status is Status.interrupted
    assert record.error is not None
    assert record.error["message"].startswith(f"stopped by {numbers[0].name}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_result_is_written_costs_nothing(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    def signalling(record: Record, folder: Path) -> Path:
        if record.status is not Status.running:
            os.kill(os.getpid(), number)
        return write(record, folder)

    monkeypatch.setattr(run, "write", signalling)
    with interrupts.handled(), run.recorded(new_record(small(), []), tmp_path):
        pass
    assert read(tmp_path / "run.json").status is Status.finished


def test_signals_are_given_back(small: Small, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    execute(small("trainer.max_epochs=1", "trainer.validate_every_epochs=1"), tmp_path, [])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_same_seed_gives_the_same_run_and_another_does_not(small: Small, tmp_path: Path) -> None:
    first, again, other = (
        execute(small(f"seed={seed}"), tmp_path / name, []) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert_same(first, tmp_path / "a", again, tmp_path / "b")
    assert first.metrics["final"]["loss"] != other.metrics["final"]["loss"]


def test_a_full_disk_and_then_a_cut_off_checkpoint_cost_no_bit(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("trainer.validate_every_epochs=1", "trainer.final_weights=last")
    undisturbed = execute(config, tmp_path / "a", [])
    saves = 0
    save = torch.save

    def full(content: Any, file: Any) -> None:
        nonlocal saves
        saves += 1
        save(content, file)
        if saves == 3:
            file.truncate(100)
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space"):
            execute(config, tmp_path / "b", [])
    stopped = read(tmp_path / "b" / "run.json")
    assert stopped.state == "disk full"
    assert sorted(path.name for path in (tmp_path / "b" / LAST).parent.iterdir()) == ["last.ckpt", "previous.ckpt"]
    os.truncate(tmp_path / "b" / LAST, 1000)
    resumed = execute(config, tmp_path / "b", [])
    assert resumed.notes[-1] == "checkpoint last.ckpt was damaged: went on from previous.ckpt"
    assert resumed.attempts == 2
    assert_same(resumed, tmp_path / "b", undisturbed, tmp_path / "a")


@pytest.mark.parametrize(("task", "share"), [("translation", 128), ("classification", 15)])
def test_out_of_memory_and_gone_on_in_halves_is_the_same_run(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, share: int
) -> None:
    """Halved in the middle of an epoch: its batches are counted anew, and no update is lost or done twice."""
    plain = ["model.dropout=0", "trainer.final_weights=last", "trainer.save_every_minutes=1e-9"]
    whole, halved = small(*plain, task=task), small(*plain, f"trainer.micro_batch={share}", task=task)
    undisturbed = execute(whole, tmp_path / "a", [])
    task_type, calls = TASKS[type(whole.task)][0], 0
    step = task_type.training_step

    def hungry(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(task_type, "training_step", hungry)
        with pytest.raises(torch.OutOfMemoryError):
            execute(whole, tmp_path / "b", [])
    assert read(tmp_path / "b" / "run.json").state == "out of memory"
    resumed = execute(halved, tmp_path / "b", [])
    assert resumed.metrics["final"]["update"] == undisturbed.metrics["final"]["update"]
    assert resumed.metrics["final"]["loss"] == pytest.approx(undisturbed.metrics["final"]["loss"], rel=1e-4)


class Crash(Exception):
    """A run that is gone between one line and the next."""


def test_a_run_that_is_killed_over_and_over_is_bit_identical(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every third step, and in the beginning of each validation, from checkpoints taken as often as can be."""
    often = ["trainer.save_every_minutes=1e-9", "logger.every_steps=2"]
    config = small(*often, "trainer.final_weights=average", "trainer.average_last=2")
    undisturbed = execute(config, tmp_path / "a", [])
    task_type = TASKS[type(config.task)][0]
    train, validate = task_type.training_step, task_type.validation_step
    steps, validated = 0, set()

    def third(self: Any, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps % 3 == 0:
            raise Crash
        return train(self, *args)

    def first(self: Any, *args: Any) -> Any:
        if self.global_step not in validated:
            validated.add(self.global_step)
            raise Crash
        return validate(self, *args)

    monkeypatch.setattr(task_type, "training_step", third)
    monkeypatch.setattr(task_type, "validation_step", first)
    for _ in range(20):
        try:
            resumed = execute(config, tmp_path / "b", [])
            break
        except Crash:
            continue
    assert len(validated) == 2
    assert_same(resumed, tmp_path / "b", undisturbed, tmp_path / "a")
