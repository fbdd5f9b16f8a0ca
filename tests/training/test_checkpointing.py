"""Which checkpoint a run goes on from, when some of them are damaged."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from attnbench.training.checkpointing import (
    LAST_CHECKPOINT,
    PREVIOUS_CHECKPOINT,
    AtomicCheckpointIO,
    find_latest_checkpoint,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        AtomicCheckpointIO(1).save_checkpoint(
            {"number": number, "weights": torch.ones(1000)}, tmp_path / LAST_CHECKPOINT
        )
    return tmp_path


def number_in(path: Path | None) -> int:
    assert path is not None
    return int(AtomicCheckpointIO(1).load_checkpoint(path, weights_only=True)["number"])


def spoil(path: Path) -> None:
    """One bit of the weights; the file opens as before."""
    content = bytearray(path.read_bytes())
    content[content.find(torch.ones(8).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_the_last_one_and_the_one_before_are_kept(folder: Path) -> None:
    assert (number_in(folder / LAST_CHECKPOINT), number_in(folder / PREVIOUS_CHECKPOINT)) == (2, 1)
    assert find_latest_checkpoint(folder) == (folder / LAST_CHECKPOINT, [])
    (folder / LAST_CHECKPOINT).unlink()  # killed between two renamings
    assert find_latest_checkpoint(folder) == (folder / PREVIOUS_CHECKPOINT, [])


def test_a_damaged_one_is_passed_over_and_taken_away(folder: Path) -> None:
    spoil(folder / LAST_CHECKPOINT)
    path, notes = find_latest_checkpoint(folder)
    assert number_in(path) == 1
    assert notes == ["checkpoint last.ckpt was damaged: went on from previous.ckpt"]
    assert not (folder / LAST_CHECKPOINT).exists()
    spoil(folder / PREVIOUS_CHECKPOINT)
    assert find_latest_checkpoint(folder) == (
        None,
        ["checkpoint previous.ckpt was damaged: restarted from the beginning"],
    )


class Code:
    """A pickle that runs a command when it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("raise AssertionError('executed')",)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("report.txt", "no weights")


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "another program's checkpoint": (
        lambda path: torch.save({"model": {}, "epoch": 3}, path),
        "not one of attnbench's",
    ),
    "a bare tensor": (lambda path: torch.save(torch.ones(3), path), "not one of attnbench's"),
    "a pickle with code": (lambda path: torch.save({"attnbench_shares": Code()}, path), "not one of attnbench's"),
    "an old pickle with code": (lambda path: path.write_bytes(pickle.dumps(Code())), "damaged"),
    "another zip": (write_zip, "not one of attnbench's"),
    "a folder": (lambda path: path.mkdir(), "not a file"),
    "nothing": (lambda path: path.touch(), "damaged"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "missing"),
}


@pytest.mark.parametrize(("write", "said"), FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_checkpoint_is_passed_over_and_kept_aside(
    folder: Path, write: Callable[[Path], object], said: str
) -> None:
    (folder / LAST_CHECKPOINT).unlink()
    write(folder / LAST_CHECKPOINT)
    path, notes = find_latest_checkpoint(folder)
    assert number_in(path) == 1
    assert notes == [f"checkpoint last.ckpt was {said}: went on from previous.ckpt"]
    assert not (folder / LAST_CHECKPOINT).exists()
    aside = folder / LAST_CHECKPOINT.with_name("last.ckpt.damaged")
    assert aside.exists() or aside.is_symlink()
    AtomicCheckpointIO(1).save_checkpoint({"number": 3}, folder / LAST_CHECKPOINT)
    assert find_latest_checkpoint(folder) == (folder / LAST_CHECKPOINT, [])


def test_damaged_ones_of_two_commands_do_not_collide(folder: Path) -> None:
    for _ in range(2):
        (folder / LAST_CHECKPOINT).unlink(missing_ok=True)
        (folder / LAST_CHECKPOINT).mkdir()
        find_latest_checkpoint(folder)
    names = sorted(path.name for path in (folder / LAST_CHECKPOINT).parent.iterdir())
    assert names == ["last.ckpt.damaged", "last.ckpt.damaged-2", "previous.ckpt"]


def test_ranks_but_the_first_only_look(folder: Path) -> None:
    spoil(folder / LAST_CHECKPOINT)
    assert find_latest_checkpoint(folder, rename_damaged=False)[0] == folder / PREVIOUS_CHECKPOINT
    assert (folder / LAST_CHECKPOINT).exists()


def test_one_that_does_not_fit_is_passed_over(folder: Path) -> None:
    path, notes = find_latest_checkpoint(
        folder, lambda found: "best.ckpt was damaged" if found["number"] == 2 else None
    )
    assert number_in(path) == 1
    assert notes == ["checkpoint best.ckpt was damaged: went on from previous.ckpt"]
