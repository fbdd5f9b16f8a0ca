"""Uploading: which sessions are missing at the server, and what becomes of those that cannot be sent."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import wandb

from attnbench import sync
from attnbench.tracking.sessions import SessionError, find_sessions, is_uploaded, read_lines


def session(folder: Path, name: str, *, sent: bool = False) -> Path:
    """A folder as W&B leaves it."""
    path = folder / name / f"run-{name.rpartition('-')[2]}.wandb"
    path.parent.mkdir(parents=True)
    path.touch()
    if sent:
        path.with_name(f"{path.name}.synced").touch()
    return path


def test_the_newest_session_of_each_run_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "heads" / "aa" / "wandb", tmp_path / "heads" / "bb" / "wandb"
    session(first, "offline-run-20260101_100000-aa", sent=True)
    newest = session(first, "run-20260102_100000-aa")
    other = session(second, "offline-run-20260101_110000-bb", sent=True)
    (first / "latest-run").symlink_to(newest.parent)
    (second / "run-20260103_110000-cc").mkdir()  # W&B did not come to write into it
    assert find_sessions(tmp_path) == [newest, other]
    assert [is_uploaded(path) for path in (other, newest)] == [True, False]
    os.utime(other, (2e9, 2e9))  # written on after it was uploaded
    assert not is_uploaded(other)


def test_the_second_session_of_a_second_is_the_newest(tmp_path: Path) -> None:
    """W&B adds -1, -2, ... to the folder, not to the file."""
    folders = [tmp_path / f"offline-run-20260101_100000-ab-1{suffix}" for suffix in ("", "-9", "-10")]
    for folder in folders:
        folder.mkdir()
        (folder / "run-ab-1.wandb").touch()
    assert find_sessions(tmp_path) == [folders[-1] / "run-ab-1.wandb"]


def test_a_file_that_wandb_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = subprocess.CompletedProcess([], 1, "", "Usage\nError: not a W&B file\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    with pytest.raises(SessionError, match=r"run-a\.wandb: W&B cannot read this: Error: not a W&B file$"):
        read_lines(tmp_path / "run-a.wandb")


def test_sync_sends_what_is_missing_and_names_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done, taken, hangs = (
        session(tmp_path / name, f"offline-run-20260101_10000{n}-{name}", sent=name == "aa")
        for n, name in enumerate(("aa", "bb", "cc"))
    )
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> None:
        commands.append(command)
        taken.with_name(f"{taken.name}.synced").touch()
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    assert sync.main([str(tmp_path)]) == 1
    (command,) = commands
    assert command[-2:] == [str(taken.parent), str(hangs.parent)]
    said = capsys.readouterr()
    assert said.out == f"{tmp_path}: 3 W&B runs, 1 uploaded before, 2 to upload\n1 uploaded\n"
    assert said.err == f"error: {hangs}: not uploaded; the same command tries again\n"
    hangs.with_name(f"{hangs.name}.synced").touch()
    assert sync.main([str(tmp_path)]) == 0  # nothing to do needs no login, and no server
    assert len(commands) == 1
    assert done.exists()


def test_nobody_logged_in_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session(tmp_path, "offline-run-20260101_100000-aa")
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    assert sync.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == ("error: not logged in to W&B: run `wandb login` once, or set WANDB_API_KEY\n")
    assert sync.main([str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
