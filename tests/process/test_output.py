"""Output that is lost, signals, and what a command inherits: no traceback, and the right exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from attnbench.process import interrupts
from attnbench.process.interrupts import Interrupted, find_interruption, parse_signal_number
from attnbench.process.output import make_command, supports_cursor_control

TALKING = """
from attnbench.process.output import make_command, exit_process
@make_command(is_output_result={result})
def main():
    import sys
    for _ in range(2000):
        print("\\u00b12 \\u2212 1 \\u00d7 \\u00e4 \\udce4" * 9)
        print("progress", file=sys.stderr)
    return 0
exit_process(main())
"""
WAITING = """
import signal, time
from attnbench.process.output import make_command, exit_process
@make_command(is_output_result=True)
def main():
    try:
        print("ready", flush=True)
        signal.pause()
    finally:
        print("ending", flush=True)
        {ending}
    return 0
exit_process(main())
"""


def start(code: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code], text=True, **options)  # type: ignore[call-overload, no-any-return]


def shell(line: str, *, result: bool = True, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """What a shell makes of `line`, in which $TALK prints much."""
    environment = os.environ | {"PYTHON": sys.executable, "CODE": TALKING.format(result=result)} | variables
    line = line.replace("$TALK", '"$PYTHON" -c "$CODE"')
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, check=False)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_cost_nothing(closed: str) -> None:
    done = shell(f"$TALK {closed}")
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("line", ["$TALK | head -1", "$TALK 2>&1 | head -1", "$TALK 2>&1 >/dev/null | head -1"])
def test_a_reader_that_ends_costs_nothing(line: str) -> None:
    done = shell(f"set -o pipefail; {line}")
    assert done.returncode == 0
    assert b"Traceback" not in done.stdout + done.stderr
    assert b"Exception" not in done.stdout + done.stderr


def test_a_terminal_that_is_gone_costs_nothing() -> None:
    ours, theirs = os.openpty()
    process = start(TALKING.format(result=True), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert os.read(ours, 1)
    os.close(ours)
    assert process.wait() == 0


@pytest.mark.parametrize(("result", "status"), [(True, 1), (False, 0)])
def test_a_disk_that_takes_no_output_fails_what_was_to_give_it(result: bool, status: int) -> None:
    done = shell("$TALK > /dev/full", result=result)
    assert done.returncode == status
    assert done.stderr.count(b"progress\n") == 2000
    said = done.stderr.replace(b"progress\n", b"")
    assert said == (
        b"attnbench: standard output: no space left on device: the output is incomplete\n" if result else b""
    )


def test_characters_that_a_locale_lacks_are_spelled() -> None:
    done = shell("$TALK 2>/dev/null | head -1", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.stdout == b"+/-2 - 1 x ? ?" * 9 + b"\n"
    done = shell("$TALK 2>/dev/null | head -1", LC_ALL="C.UTF-8")
    assert done.stdout == "\u00b12 \u2212 1 \u00d7 \u00e4 ?".encode() * 9 + b"\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("again", [False, True], ids=["once", "again while it ends"])
def test_a_signal_ends_a_command_with_its_status_and_a_sentence(number: signal.Signals, again: bool) -> None:
    ending = "signal.raise_signal(signal.SIGINT)" if again else "pass"
    process = start(WAITING.format(ending=ending), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, error = process.communicate()
    assert (process.returncode, out) == (128 + number, "ending\n")
    assert error == f"attnbench: stopped by {number.name}; the same command continues from there\n"


def test_nohup_keeps_what_it_keeps() -> None:
    code = WAITING.format(ending="pass")
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in error


def test_a_current_folder_that_is_gone_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    line = f'cd {folder}; rmdir {folder}; "{sys.executable}" -m attnbench.table small'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "attnbench: the current folder no longer exists: change to one that exists\n"


def test_figures_need_no_screen_whatever_a_notebook_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")

    @make_command(is_output_result=True)
    def main() -> int:
        import matplotlib

        assert os.environ["MPLBACKEND"] == "agg"
        return 0 if matplotlib.get_backend().lower() == "agg" else 1

    assert main() == 0


@pytest.mark.parametrize(("term", "live"), [("dumb", False), ("xterm", True)])
def test_a_terminal_without_escape_codes_gets_lines(monkeypatch: pytest.MonkeyPatch, term: str, live: bool) -> None:
    monkeypatch.setenv("TERM", term)
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "w") as stream:
        assert supports_cursor_control(stream) is live
    assert not supports_cursor_control(None)


def test_a_first_signal_waits_where_that_is_wanted_and_a_second_does_not() -> None:
    with interrupts.handle_signals():
        interrupts.set_waiting_for_check(True)
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.get_requested_signal() == signal.SIGTERM
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # it ends already
    with interrupts.handle_signals():
        assert interrupts.get_requested_signal() is None


def test_a_signal_waits_for_what_must_be_whole() -> None:
    done = []

    def write_whole() -> None:
        with interrupts.delay_signals():
            signal.raise_signal(signal.SIGTERM)
            done.append("whole")

    with interrupts.handle_signals(), pytest.raises(Interrupted):
        write_whole()
    assert done == ["whole"]


def test_what_follows_from_a_signal_has_its_reason() -> None:
    with interrupts.handle_signals():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGHUP)
        reason = find_interruption(ImportError("cannot load"))
    assert str(reason) == "stopped by SIGHUP"
    error = ImportError("cannot load")
    assert find_interruption(error) is error
    assert str(find_interruption(KeyboardInterrupt())) == "stopped by SIGINT"
    assert parse_signal_number("rank 1: stopped by SIGTERM after update 3") == signal.SIGTERM
    assert parse_signal_number("stopped by SIGNORANCE") is parse_signal_number("boom") is None
