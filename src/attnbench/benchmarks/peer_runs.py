"""This project beside other toolkits: a process each, in an environment each, which take turns on one core."""

from __future__ import annotations

import copy
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from attnbench.benchmarks import peer_environments
from attnbench.benchmarks.measurement import NotInstalled, Numbers, Subject
from attnbench.benchmarks.peer_inputs import temporary_folder
from attnbench.benchmarks.results import Settings

OURS = "attnbench"
_PACKAGE = Path(__file__).parents[1]  # the package itself
_SAID = "said"  # what a contender prints
_PATIENCE = 600.0  # seconds after which a contender is taken to hang
# What makes glibc keep freed pages: a large tensor then costs no page faults.
KEEP_PAGES = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "268435456",
}  # fmt: skip


class Contender(NamedTuple):
    """A row, and what runs for it."""

    name: str
    module: str  # in attnbench.benchmarks.peers
    environment: str | None = None  # None: this one
    how: str = ""  # what the module is told
    variables: Mapping[str, str] = {}
    by_torch: bool = True  # what torch's profiler can look into
    changes: Mapping[str, Any] = {}  # to the job's config, by full key: {"trainer.precision": "bf16_mixed"}


class Contest:
    """What the rows of one group have in common."""

    def __init__(
        self, group: str, unit: str, job: dict[str, Any], settings: Settings, notes: list[str], prepared: object = None
    ) -> None:
        """`unit`: what a turn counts; `prepared`: what must live as long as contenders read its files."""
        self.group, self.unit, self.settings, self.notes, self.prepared = group, unit, settings, notes, prepared
        threads = settings.threads or 1
        self.job = job | {"threads": threads, "seconds": settings.seconds, "cores": _cores(threads)}

    def subject(self, contender: Contender) -> Subject:
        """The row of one contender, its ratios to this project's."""
        entry = Entry(contender, self)
        return Subject(self.group, contender.name, OURS, entry.sample, entry.once)

    def finish(self, answer: dict[str, Any], said: dict[str, Any]) -> Numbers:
        """What does not vary of a contender, from its last answer and what it said when it was ready."""
        shares = {f"{kind}_percent": 100 * share for kind, share in answer.get("profile", {}).items()}
        return {"peak_rss_mib": answer["peak_rss_mib"], **shares}

    def tell_versions(self, contender: Contender, versions: Mapping[str, str]) -> None:
        """Once a contender, in the table's notes."""
        note = f"{contender.name}: {', '.join(f'{name} {version}' for name, version in versions.items())}."
        if note not in self.notes:
            self.notes.append(note)


def told(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    """The job as this contender gets it: with its `how`, and its changes in the config, which must know their keys."""
    job = copy.deepcopy(job) | {"how": contender.how}
    for key, value in contender.changes.items():
        group, _, name = key.partition(".")
        if name not in job["config"][group]:
            raise KeyError(key)
        job["config"][group][name] = value
    return job


class Entry:
    """A contender's process, started when it is first asked and gone after its profile."""

    def __init__(self, contender: Contender, contest: Contest) -> None:
        self.contender, self.contest = contender, contest
        self._process: _Process | None = None

    def sample(self) -> Numbers:
        """One turn."""
        answer = self._ask("go")
        return {f"{self.contest.unit}_per_sec": answer["units"] / answer["seconds"]}

    def once(self) -> Numbers:
        """One more turn under a profiler, which counts nowhere else; then the process ends."""
        assert self._process is not None, "samples come first"
        said = self._process.said
        answer = self._ask("profile" if self.contender.by_torch else "go")
        self._process.close()
        return self.contest.finish(answer, said)

    def _ask(self, what: str) -> dict[str, Any]:
        if self._process is None:
            self._process = _Process(self.contender, told(self.contender, self.contest.job))
            self.contest.tell_versions(self.contender, self._process.said["versions"])
        return self._process.ask(what)


class _Process:
    """A child that answers: peers/serving.py is its side."""

    def __init__(self, contender: Contender, job: dict[str, Any]) -> None:
        python: Path | None = Path(sys.executable)
        if contender.environment is not None:
            python = peer_environments.python_of(contender.environment)
        if python is None:
            raise NotInstalled(f"python -m attnbench.bench peers install {contender.environment}")
        self._folder = folder = temporary_folder(self)
        (folder / "attnbench").symlink_to(_PACKAGE)  # this package alone, whatever lies beside it
        self._answers, theirs = os.pipe()
        (folder / "job.json").write_text(json.dumps(job | {"answers": theirs}), "utf-8")
        threads = str(job["threads"])
        variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **contender.variables}
        if contender.environment is not None:
            variables["PYTHONPATH"] = str(folder)
        module = f"attnbench.benchmarks.peers.{contender.module}"
        with (folder / _SAID).open("w") as said:
            self._child = subprocess.Popen(
                [python, "-W", "ignore", "-m", module, folder / "job.json"],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                pass_fds=(theirs,),
                env=os.environ | variables,
            )
        os.close(theirs)
        self._pending = b""
        self.said = self._answer()

    def ask(self, what: str) -> dict[str, Any]:
        """The answer to one turn."""
        assert self._child.stdin is not None, "it was opened as a pipe"
        try:
            self._child.stdin.write(what.encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            self._fail("ended")
        return self._answer()

    def close(self) -> None:
        """It ends when nobody asks any more."""
        with self._child:  # closes its stdin, and waits
            os.close(self._answers)

    def _answer(self) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while not self._pending.endswith(b"\n"):
                if not selector.select(_PATIENCE):
                    self._fail(f"no answer within {_PATIENCE:.0f} seconds")
                part = os.read(self._answers, 2**20)
                if not part:
                    self._fail("ended")
                self._pending += part
        line, self._pending = self._pending, b""
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _fail(self, what: str) -> NoReturn:
        self._child.kill()
        with suppress(BrokenPipeError):
            self.close()
        said = (self._folder / _SAID).read_text("utf-8", "replace").strip().splitlines()
        raise RuntimeError(f"{what}: {said[-1] if said else 'nothing said'}")


def _cores(threads: int) -> list[int] | None:
    """The last of the cores that this process may use, as many as there are threads; None: no system call for it."""
    return sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else None
