"""Test the command `attnbench VERB ...`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.__main__ import get_main_function, main
from attnbench.process.commands import COMMANDS


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "attnbench", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=os.environ | {"COLUMNS": "120"},
    )  # fmt: skip


@pytest.mark.parametrize("verb", sorted(set(COMMANDS) - {"sweep"}))
def test_each_verb_has_a_main_function(verb: str) -> None:
    assert callable(get_main_function(verb))
    assert COMMANDS[verb]


def test_the_help_lists_all_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {verb} " in text for verb in COMMANDS)
    assert main([]) == 2


def test_an_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "attnbench: trian: expected one of train, sweep, plan, status, table" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", ["status", "table", "report", "translate", "bench", "sync", "import-wandb", "wandb-sweep"]
)
def test_the_help_of_a_verb_names_the_verb(verb: str, tmp_path: Path) -> None:
    found = run(verb, "--help", folder=tmp_path)
    assert found.returncode == 0, found.stderr
    assert f"usage: attnbench {verb} " in found.stdout.replace("\n", " ")


def test_the_exit_status_is_that_of_the_command(tmp_path: Path) -> None:
    found = run("train", "model.num_heads=7", folder=tmp_path)
    assert found.returncode == 2
    assert "model.num_heads=7: expected a divisor" in found.stderr
    assert run("table", "missing", folder=tmp_path).returncode == 2


def test_sweep_trains_a_named_sweep(tmp_path: Path) -> None:
    found = run("sweep", "heads", "model.depth=-1", folder=tmp_path)
    assert found.returncode == 2
    assert "model.depth=-1: expected a number at least 1" in found.stderr
    assert run("sweep", "haeds", folder=tmp_path).returncode == 2
