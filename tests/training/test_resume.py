"""A run that was stopped and gone on with ends bit for bit where one that was not ends."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnbench.config import Config
from attnbench.data.errors import DataError
from attnbench.process import interrupts
from attnbench.records import history
from attnbench.records.lifecycle import create_record
from attnbench.records.record import Record, RecordError, Status, read_record, write_record
from attnbench.sweeps import retries
from attnbench.sweeps.processes import Job
from attnbench.tasks.build import TASKS
from attnbench.tasks.translation import Translation
from attnbench.training import checkpointing, runner
from attnbench.training.callbacks.resumable import Interrupted
from attnbench.training.checkpointing import LAST_CHECKPOINT
from attnbench.training.runner import MODEL_FILE, run_training

from .conftest import Small


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / MODEL_FILE, weights_only=True)["state_dict"]
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
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history.read_history(folder)]


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
        "logger.log_every_n_steps=2",
        *(["task.decode_tokens=128"] * (task != "classification")),
        *([f"trainer.micro_batch_size={share}"] * accumulated),
        task=task,
    )
    undisturbed = run_training(config, tmp_path / "a", [])
    with monkeypatch.context() as patch:
        stop_at(patch, config, step, count, signal.SIGINT if count % 2 else signal.SIGTERM)
        with pytest.raises(Interrupted):
            run_training(config, tmp_path / "b", [])
    stopped = read_record(tmp_path / "b" / "run.json")
    assert stopped.status is Status.interrupted
    assert stopped.error is not None
    assert "stopped by SIG" in stopped.error["message"]
    assert (tmp_path / "b" / LAST_CHECKPOINT).is_file() or step == "validation_step"
    resumed = run_training(config, tmp_path / "b", [])
    assert_same(resumed, tmp_path / "b", undisturbed, tmp_path / "a")


@pytest.mark.parametrize("step", ["training_step", "test_step"])
@pytest.mark.parametrize("numbers", [(signal.SIGHUP,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)])
def test_every_signal_is_recorded_as_the_first_that_came(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, numbers: tuple[signal.Signals, ...]
) -> None:
    """A second one does not wait for the update, and is not taken for another; Lightning would end with status 1."""
    config = small("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "task.decode_tokens=128")
    for number in reversed(numbers):  # the one that is patched in last comes first
        stop_at(monkeypatch, config, step, 1, number)
    with pytest.raises(Interrupted) as stopped:
        run_training(config, tmp_path, [])
    assert stopped.value.code == 128 + numbers[0]
    record = read_record(tmp_path / "run.json")
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
        return write_record(record, folder)

    monkeypatch.setattr(runner, "write_record", signalling)
    with interrupts.handle_signals(), runner.write_record_around(create_record(small(), []), tmp_path):
        pass
    assert read_record(tmp_path / "run.json").status is Status.finished


def test_signals_are_given_back(small: Small, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run_training(small("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1"), tmp_path, [])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_same_seed_gives_the_same_run_and_another_does_not(small: Small, tmp_path: Path) -> None:
    first, again, other = (
        run_training(small(f"seed={seed}"), tmp_path / name, []) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert_same(first, tmp_path / "a", again, tmp_path / "b")
    assert first.metrics["final"]["loss"] != other.metrics["final"]["loss"]


def test_a_full_disk_and_then_a_cut_off_checkpoint_cost_no_bit(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("trainer.check_val_every_n_epoch=1", "trainer.final_weights=last")
    undisturbed = run_training(config, tmp_path / "a", [])
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
            run_training(config, tmp_path / "b", [])
    stopped = read_record(tmp_path / "b" / "run.json")
    assert stopped.status_label == "disk full"
    assert sorted(path.name for path in (tmp_path / "b" / LAST_CHECKPOINT).parent.iterdir()) == [
        "last.ckpt",
        "previous.ckpt",
    ]
    os.truncate(tmp_path / "b" / LAST_CHECKPOINT, 1000)
    resumed = run_training(config, tmp_path / "b", [])
    assert resumed.notes[-1] == "checkpoint last.ckpt was damaged: went on from previous.ckpt"
    assert resumed.attempts == 2
    assert_same(resumed, tmp_path / "b", undisturbed, tmp_path / "a")


@pytest.mark.parametrize(("task", "share"), [("translation", 128), ("classification", 15)])
def test_out_of_memory_and_gone_on_in_halves_is_the_same_run(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, share: int
) -> None:
    """Halved in the middle of an epoch: its batches are counted anew, and no update is lost or done twice."""
    plain = ["model.dropout=0", "trainer.final_weights=last", "trainer.save_every_minutes=1e-9"]
    whole, halved = small(*plain, task=task), small(*plain, f"trainer.micro_batch_size={share}", task=task)
    undisturbed = run_training(whole, tmp_path / "a", [])
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
            run_training(whole, tmp_path / "b", [])
    assert read_record(tmp_path / "b" / "run.json").status_label == "out of memory"
    resumed = run_training(halved, tmp_path / "b", [])
    assert resumed.metrics["final"]["update"] == undisturbed.metrics["final"]["update"]
    assert resumed.metrics["final"]["loss"] == pytest.approx(undisturbed.metrics["final"]["loss"], rel=1e-4)


def let_the_first_validation_be_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later weights are worse: which ones are tested shows whether the best score is remembered."""
    publish = Translation.publish_report

    def published(self: Translation, stage: str, report: dict[str, Any]) -> None:
        publish(self, stage, report | ({"bleu": 50.0 - self.global_step} if stage == "val" else {}))

    monkeypatch.setattr(Translation, "publish_report", published)


@pytest.mark.parametrize("final", ["best", "average", "last"])
@pytest.mark.parametrize(("step", "count"), [("training_step", 8), ("test_step", 1)])
def test_a_folder_that_was_moved_goes_on_as_if_it_were_not(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, final: str, step: str, count: int
) -> None:
    """In the middle of training, and after the last validation; copied, so that the old folder is there as well."""
    let_the_first_validation_be_the_best(monkeypatch)
    config = small(
        f"trainer.final_weights={final}",
        "trainer.average_last=2",
        "trainer.check_val_every_n_epoch=1",
        "task.decode_tokens=128",
    )
    undisturbed = run_training(config, tmp_path / "a", [])
    assert undisturbed.metrics["best"]["epoch"] == 1
    with monkeypatch.context() as patch:
        stop_at(patch, config, step, count, signal.SIGTERM)
        with pytest.raises(Interrupted):
            run_training(config, tmp_path / "b", [])
    assert len(list((tmp_path / "b").glob("history.jsonl"))) == 1
    shutil.copytree(tmp_path / "b", tmp_path / "c" / "d")
    resumed = run_training(config, tmp_path / "c" / "d", [])
    assert_same(resumed, tmp_path / "c" / "d", undisturbed, tmp_path / "a")
    assert resumed.notes == undisturbed.notes


def flip_a_bit(path: Path) -> None:
    """Of the weights: the file opens as before, and torch.load does not notice."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_others(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content | {"global_step": 1}, path)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (lambda path: os.truncate(path, 1000), "was damaged"),
    "a bit": (flip_a_bit, "was damaged"),
    "gone": (lambda path: path.unlink(), "missing"),
    "of another update": (replace_by_others, "was of update 1 instead of"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("final", ["best", "average"])
def test_weights_that_were_lost_before_their_test_are_made_again(
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    final: str,
    damage: Callable[[Path], object],
    said: str,
) -> None:
    """Damaged after the last validation, by which they were chosen."""
    config = small(f"trainer.final_weights={final}", "trainer.average_last=2", "task.decode_tokens=128")
    undisturbed = run_training(config, tmp_path / "a", [])
    with monkeypatch.context() as patch:
        stop_at(patch, config, "test_step", 1, signal.SIGINT)
        with pytest.raises(Interrupted):
            run_training(config, tmp_path / "b", [])
    damage(sorted((tmp_path / "b" / LAST_CHECKPOINT).parent.glob("best*" if final == "best" else "recent*"))[-1])
    resumed = run_training(config, tmp_path / "b", [])
    note = next(note for note in resumed.notes if note.endswith("restarted from the beginning"))
    assert said in note
    assert_same(resumed, tmp_path / "b", undisturbed, tmp_path / "a")


@pytest.mark.parametrize("damage", [flip_a_bit, replace_by_others])
def test_weights_that_are_not_those_of_the_record_are_not_tested(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    config, choose = small(), checkpointing.load_final_weights

    def damaged(*args: Any) -> Any:
        damage(tmp_path / "checkpoints" / "best.ckpt")
        return choose(*args)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "load_final_weights", damaged)
        with pytest.raises(RecordError, match=r"best\.ckpt: .*; the same command restarts from the beginning"):
            run_training(config, tmp_path, [])
    stopped = read_record(tmp_path / "run.json")
    assert (stopped.status_label, stopped.metrics["test"]) == ("refused", {})
    assert run_training(config, tmp_path, []).status is Status.finished


def test_a_checkpoint_of_another_run_is_not_gone_on_from(small: Small, tmp_path: Path) -> None:
    other, config = small("seed=2", "trainer.max_epochs=2"), small("trainer.max_epochs=2")
    undisturbed = run_training(config, tmp_path / "a", [])
    run_training(other, tmp_path / "b", [])
    (tmp_path / "c" / LAST_CHECKPOINT).parent.mkdir(parents=True)
    shutil.copy(tmp_path / "b" / LAST_CHECKPOINT, tmp_path / "c" / LAST_CHECKPOINT)
    found = run_training(config, tmp_path / "c", [])
    assert found.notes == ["checkpoint was of another run: restarted from the beginning"]
    assert found.metrics == undisturbed.metrics


HISTORY_DAMAGE: dict[str, tuple[Callable[[list[str]], list[str] | None], int]] = {
    "a number": (lambda lines: ["3", *lines[1:]], 1),
    "empty keys": (lambda lines: [lines[0], "{}", *lines[2:]], 1),
    "garbage": (lambda lines: ["\0\0#", *lines[1:]], 1),
    "gone": (lambda lines: None, 6),
    "another line": (lambda lines: [lines[0], "null", *lines[1:]], 0),
}


@pytest.mark.parametrize(("damage", "lost"), HISTORY_DAMAGE.values(), ids=HISTORY_DAMAGE)
def test_lines_of_the_history_that_were_lost_are_noted(
    small: Small,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[list[str]], list[str] | None],
    lost: int,
) -> None:
    config = small("logger.log_every_n_steps=2", "trainer.check_val_every_n_epoch=1", "trainer.max_epochs=3")
    run_training(config, tmp_path / "a", [])
    with monkeypatch.context() as patch:
        stop_at(patch, config, "validation_step", 2, signal.SIGTERM)
        with pytest.raises(Interrupted):
            run_training(config, tmp_path / "b", [])
    path = tmp_path / "b" / history.HISTORY_FILE
    lines = path.read_text().splitlines()
    left = damage(lines)
    path.unlink()
    if left is not None:
        path.write_text("".join(f"{line}\n" for line in left))
    resumed = run_training(config, tmp_path / "b", [])
    noted = [note for note in resumed.notes if note.startswith("history.jsonl")]
    assert [note.split()[1] for note in noted] == [str(lost)] * (lost > 0), noted
    assert len(curves(tmp_path / "b")) == len(curves(tmp_path / "a")) - lost


def test_what_was_lost_stays_in_the_record_of_later_attempts(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("trainer.check_val_every_n_epoch=1")
    for count in (10, 5):
        with monkeypatch.context() as patch:
            stop_at(patch, config, "training_step", count, signal.SIGTERM)
            with pytest.raises(Interrupted):
                run_training(config, tmp_path, [])
        if count == 10:
            os.truncate(tmp_path / LAST_CHECKPOINT, 1000)
    assert run_training(config, tmp_path, []).notes == ["checkpoint last.ckpt was damaged: went on from previous.ckpt"]


def test_where_the_numbers_of_every_attempt_come_from_is_kept(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    with monkeypatch.context() as patch:
        stop_at(patch, config, "training_step", 3, signal.SIGTERM)
        patch.setattr("attnbench.records.identity._get_cpu_name", lambda: "another processor")
        with pytest.raises(Interrupted):
            run_training(config, tmp_path, [])
    record = run_training(config, tmp_path, [])
    assert read_record(tmp_path / "run.json") == record
    assert [session["attempt"] for session in record.sessions] == [1, 2]
    assert record.sessions[0]["cpu"] == "another processor" != record.provenance["cpu"]
    assert record.sessions[0]["data"] == record.sessions[1]["data"] != {}
    assert record.sessions[1].items() >= record.provenance.items()


def test_a_run_does_not_go_on_with_other_data(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small()
    with monkeypatch.context() as patch:
        stop_at(patch, config, "training_step", 3, signal.SIGTERM)
        with pytest.raises(Interrupted):
            run_training(config, tmp_path, [])
    for _ in range(2):  # what is refused does not forget what it was compared with
        with monkeypatch.context() as patch:
            patch.setattr(TASKS[type(config.task)][1], "checksums", {"synthetic": "abc"})
            with pytest.raises(DataError, match="synthetic: not as when this run began; expected the same content"):
                run_training(config, tmp_path, [])
    assert run_training(config, tmp_path, []).status is Status.finished


def csv_rows(folder: Path) -> list[dict[str, str]]:
    """What is in metrics.csv, but for the clock; steps with what was logged, in the order of the file."""
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if v and not k.startswith("performance/")} for row in rows]


@pytest.mark.parametrize(("step", "count"), [("training_step", 7), ("training_step", 9), ("test_step", 1)])
def test_metrics_csv_is_as_of_a_run_never_stopped(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, count: int
) -> None:
    config = small(
        "logger=csv", "logger.log_every_n_steps=2", "trainer.check_val_every_n_epoch=1", "task.decode_tokens=128"
    )
    run_training(config, tmp_path / "a", [])
    with monkeypatch.context() as patch:
        stop_at(patch, config, step, count, signal.SIGTERM)
        with pytest.raises(Interrupted):
            run_training(config, tmp_path / "b", [])
    before = csv_rows(tmp_path / "b")
    run_training(config, tmp_path / "b", [])
    assert csv_rows(tmp_path / "b") == csv_rows(tmp_path / "a")
    assert csv_rows(tmp_path / "b")[: len(before)] == before
    assert len(before) > 2


def test_rows_beyond_the_last_checkpoint_are_logged_once(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("logger=csv", "logger.log_every_n_steps=1", "trainer.check_val_every_n_epoch=1")
    run_training(config, tmp_path / "a", [])
    original, calls = Translation.training_step, 0

    def crash(self: Translation, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise Crash
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Translation, "training_step", crash)
        with pytest.raises(Crash):
            run_training(config, tmp_path / "b", [])
    run_training(config, tmp_path / "b", [])
    assert csv_rows(tmp_path / "b") == csv_rows(tmp_path / "a")


@pytest.mark.parametrize(("task", "most"), [("translation", 100), ("classification", 9)])
def test_a_batch_that_is_halved_until_it_fits_ends_with_the_result_of_the_whole(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, most: int
) -> None:
    """From the first attempt to success, as a supervisor decides it: the same run, the same updates."""
    plain = ["model.dropout=0", "trainer.final_weights=last", "sweep.on_oom=halve_batch"]
    config = small(*plain, task=task)
    undisturbed = run_training(config, tmp_path / "a", [])
    task_type, limit = TASKS[type(config.task)][0], most
    step = task_type.training_step

    def hungry(self: Any, batch: Any, number: int) -> Any:
        if batch.token_counts[1] > limit * (2 if task == "translation" else 1):  # both sides of a pair
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, batch, number)

    monkeypatch.setattr(task_type, "training_step", hungry)
    attempt = retries.RunAttempt(1, "", Job("", [], config, tmp_path / "b", run_training))
    tried: list[int | None] = []
    while True:
        tried.append(attempt.micro_batch_size)
        config.trainer.micro_batch_size = attempt.micro_batch_size
        try:
            found = run_training(config, tmp_path / "b", retries.build_placement_overrides(attempt, 1))
            break
        except torch.OutOfMemoryError:
            config.trainer.micro_batch_size = None
            again = retries.decide_retry(attempt, read_record(tmp_path / "b" / "run.json"))
            assert again is not None, tried
            attempt.micro_batch_size = again.micro_batch_size
    assert len(tried) > 2
    assert tried[-1] is not None
    assert tried[-1] <= most
    assert found.overrides == [f"trainer.micro_batch_size={tried[-1]}"]
    assert (found.run_id, found.status, found.attempts) == (undisturbed.run_id, Status.finished, len(tried))
    assert [session["attempt"] for session in found.sessions] == [*range(1, len(tried) + 1)]
    for part in ("final", "test"):
        assert found.metrics[part]["loss"] == pytest.approx(undisturbed.metrics[part]["loss"], rel=1e-4)
    assert found.metrics["final"]["update"] == undisturbed.metrics["final"]["update"]
    assert found.performance["steps"] == undisturbed.performance["steps"]


class Crash(Exception):
    """A run that is gone between one line and the next."""


def test_a_run_that_is_killed_over_and_over_is_bit_identical(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every third step, and in the beginning of each validation, from checkpoints taken as often as can be."""
    often = ["trainer.save_every_minutes=1e-9", "logger.log_every_n_steps=2"]
    config = small(*often, "trainer.final_weights=average", "trainer.average_last=2")
    undisturbed = run_training(config, tmp_path / "a", [])
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
            resumed = run_training(config, tmp_path / "b", [])
            break
        except Crash:
            continue
    assert len(validated) == 2
    assert_same(resumed, tmp_path / "b", undisturbed, tmp_path / "a")
