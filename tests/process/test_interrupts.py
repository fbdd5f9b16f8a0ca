"""The tests themselves: signals are a terminal's wherever they run, and a test that hangs fails."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest


def test_signals_are_those_of_a_terminal() -> None:
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_a_background_job_of_a_script_has_them_too() -> None:
    """`nohup make test &` in a script: SIGINT and SIGHUP are ignored when Python starts."""
    test = f"{Path(__file__)}::test_signals_are_those_of_a_terminal"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    done = subprocess.run(
        ["sh", "-c", "trap '' INT HUP; exec \"$@\"", "sh", *command],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_every_test_has_a_time_limit(pytestconfig: pytest.Config) -> None:
    assert float(pytestconfig.getini("timeout")) == 180
