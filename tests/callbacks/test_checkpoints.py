"""Which checkpoint a run goes on from, when some of them are damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnbench.callbacks.checkpoints import LAST, PREVIOUS, WholeCheckpoints, latest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        WholeCheckpoints(1).save_checkpoint({"number": number, "weights": torch.ones(1000)}, tmp_path / LAST)
    return tmp_path


def number_in(path: Path | None) -> int:
    assert path is not None
    return int(WholeCheckpoints(1).load_checkpoint(path, weights_only=True)["number"])


def spoil(path: Path) -> None:
    """One bit of the weights; the file opens as before."""
    content = bytearray(path.read_bytes())
    content[content.find(torch.ones(8).numpy().tobytes())] ^= 1
    path.write_bytes(content)


def test_the_last_one_and_the_one_before_are_kept(folder: Path) -> None:
    assert (number_in(folder / LAST), number_in(folder / PREVIOUS)) == (2, 1)
    assert latest(folder) == (folder / LAST, [])
    (folder / LAST).unlink()  # killed between two renamings
    assert latest(folder) == (folder / PREVIOUS, [])


def test_a_damaged_one_is_passed_over_and_taken_away(folder: Path) -> None:
    spoil(folder / LAST)
    path, notes = latest(folder)
    assert number_in(path) == 1
    assert notes == ["checkpoint last.ckpt was damaged: went on from previous.ckpt"]
    assert not (folder / LAST).exists()
    spoil(folder / PREVIOUS)
    assert latest(folder) == (None, ["checkpoint previous.ckpt was damaged: began anew"])
