from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench import completion
from attnbench.completion import SCRIPTS, complete_line
from attnbench.config.attention import Score
from attnbench.process.commands import COMMANDS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("attnbench tr", ["train ", "translate "]),
        ("attnbench sweep norm", ["norm_placement ", "normalizers "]),
        ("attnbench train mod", ["model.", "model="]),
        ("attnbench train -m model=lu", ["model=luong "]),
        ("attnbench train model=luong model.input_", ["model.input_feeding="]),
        (
            "attnbench train model=luong model.input_feeding=",
            ["model.input_feeding=false ", "model.input_feeding=true "],
        ),
        ("attnbench train model=tiny model.input_", []),
        (
            "attnbench train attention.normalizer=s",
            ["attention.normalizer=softmax ", "attention.normalizer=sparsemax "],
        ),
        ("attnbench sweep heads trainer.max_s", ["trainer.max_steps="]),
        ("attnbench train nonsense=1 optim.l", ["optim.lr="]),
        ("attnbench train optim.lr=1", []),
        ("attnbench train -", []),
        ("attnbench table exp", []),
    ],
)  # fmt: skip
def test_the_words_that_complete_a_line(line: str, expected: list[str]) -> None:
    assert complete_line(line) == expected


def test_an_empty_word_lists_all_commands() -> None:
    assert complete_line("attnbench ") == [f"{verb} " for verb in COMMANDS]


def test_every_score_completes_the_group_and_the_key() -> None:
    for key in ("attention", "attention.score"):
        assert complete_line(f"attnbench train {key}=") == sorted(f"{key}={score.name} " for score in Score)


def test_the_command_prints_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, script in SCRIPTS.items():
        assert completion.main([shell]) == 0
        assert capsys.readouterr().out == script


DRIVERS = {
    "bash": '''source "$1"; COMP_LINE="$2"; COMP_POINT=${#COMP_LINE}; _attnbench; printf '%s|' "${COMPREPLY[@]}"''',
    "zsh": """compinit() { :; }; compdef() { :; }; compadd() { shift 4; printf '%s|' "$@"; }; source "$1"
             BUFFER="$2"; CURSOR=${#BUFFER}; _attnbench""",
    "fish": '''source $argv[1]; complete -C $argv[2] | string join "|"''',
}


@pytest.mark.parametrize("shell", DRIVERS)
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "attnbench").write_text(f'#!/bin/sh\nexec {sys.executable} -m attnbench "$@"\n')
    (tmp_path / "bin" / "attnbench").chmod(0o755)
    (tmp_path / "script").write_text(SCRIPTS[shell])
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "HOME": str(tmp_path)}

    def complete(line: str) -> list[str]:
        command = [program, "-c", DRIVERS[shell], *([] if shell == "fish" else [shell]), str(tmp_path / "script"), line]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert found.stderr == ""
        return [word.strip() for word in found.stdout.strip().strip("|").split("|")]

    assert complete("attnbench tr") == ["train", "translate"]
    expected = ["optim=adam", "optim=adamw"]
    assert complete("attnbench train optim=adam") == (
        [word.partition("=")[2] for word in expected] if shell == "bash" else expected
    )
