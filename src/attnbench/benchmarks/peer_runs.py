"""Run this project and other toolkits in turns: one process and one environment each, on one core."""

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
from attnbench.benchmarks.measurement import BenchmarkCase, Measurements, NotInstalledError
from attnbench.benchmarks.peer_inputs import create_temporary_folder
from attnbench.benchmarks.results import Settings

OUR_NAME = "attnbench"
_PACKAGE = Path(__file__).parents[1]  # folder of the package
_OUTPUT_FILE = "said"  # file with the output of a peer
_TIMEOUT_SECONDS = 600.0  # a peer that takes longer is stopped
# Let glibc keep freed pages, so that a large tensor causes no page faults.
KEEP_PAGES_VARIABLES = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "8000000000", "MALLOC_TOP_PAD_": "268435456",
}  # fmt: skip


class Peer(NamedTuple):
    """Row of a suite with peers, and the module that runs for it."""

    name: str
    module: str  # in attnbench.benchmarks.peers
    environment: str | None = None  # None: this project's environment
    variant: str = ""  # variant that the module runs
    variables: Mapping[str, str] = {}
    uses_torch: bool = True  # whether torch's profiler can be used
    config_changes: Mapping[str, Any] = {}  # to the job's config, by full key: {"trainer.precision": "bf16-mixed"}


class PeerGroup:
    """Group of peers that do the same job."""

    def __init__(
        self,
        group: str,
        unit_name: str,
        job: dict[str, Any],
        settings: Settings,
        notes: list[str],
        inputs: object = None,
    ) -> None:
        """Create a group.

        Args:
            group: name of the group.
            unit_name: name of what a turn counts.
            job: job description for the peers.
            settings: options of the command.
            notes: notes of the table; versions are added.
            inputs: object that owns the files of the job.
        """
        self.group, self.unit_name, self.settings, self.notes, self.inputs = group, unit_name, settings, notes, inputs
        threads = settings.threads or 1
        self.job = job | {"threads": threads, "seconds": settings.seconds, "cores": _select_cores(threads)}

    def build_case(self, peer: Peer) -> BenchmarkCase:
        """Build the row of one peer, with this project as the baseline."""
        entry = PeerMeasurement(peer, self)
        return BenchmarkCase(self.group, peer.name, OUR_NAME, entry.measure_turn, entry.measure_profile)

    def summarize(self, answer: dict[str, Any], greeting: dict[str, Any]) -> Measurements:
        """Compute the numbers that are measured once.

        Args:
            answer: last answer of the peer.
            greeting: first message of the peer.
        """
        shares = {f"{kind}_percent": 100 * share for kind, share in answer.get("profile", {}).items()}
        return {"peak_rss_mib": answer["peak_rss_mib"], **shares}

    def add_version_note(self, peer: Peer, versions: Mapping[str, str]) -> None:
        """Add the versions of a peer's packages to the notes, once."""
        note = f"{peer.name}: {', '.join(f'{name} {version}' for name, version in versions.items())}."
        if note not in self.notes:
            self.notes.append(note)


def build_peer_job(peer: Peer, job: dict[str, Any]) -> dict[str, Any]:
    """Build the job of a peer: with its variant, and its changes to the config.

    Args:
        peer: the peer.
        job: job of the group.

    Raises:
        KeyError: a change has an unknown config key.
    """
    job = copy.deepcopy(job) | {"how": peer.variant}
    for key, value in peer.config_changes.items():
        group, _, name = key.partition(".")
        if name not in job["config"][group]:
            raise KeyError(key)
        job["config"][group][name] = value
    return job


class PeerMeasurement:
    """Measurement of a peer; its process starts at first use and ends after the profile."""

    def __init__(self, peer: Peer, group: PeerGroup) -> None:
        self.peer, self.group = peer, group
        self._process: _PeerProcess | None = None

    def measure_turn(self) -> Measurements:
        """Measure one turn."""
        answer = self._request("go")
        return {f"{self.group.unit_name}_per_sec": answer["units"] / answer["seconds"]}

    def measure_profile(self) -> Measurements:
        """Measure one more turn under a profiler, which does not count, and end the process."""
        assert self._process is not None, "samples come first"
        greeting = self._process.greeting
        answer = self._request("profile" if self.peer.uses_torch else "go")
        self._process.close()
        return self.group.summarize(answer, greeting)

    def _request(self, what: str) -> dict[str, Any]:
        if self._process is None:
            self._process = _PeerProcess(self.peer, build_peer_job(self.peer, self.group.job))
            self.group.add_version_note(self.peer, self._process.greeting["versions"])
        return self._process.request(what)


class _PeerProcess:
    """Process of a peer; peers/serving.py is the other side."""

    def __init__(self, peer: Peer, job: dict[str, Any]) -> None:
        python: Path | None = Path(sys.executable)
        if peer.environment is not None:
            python = peer_environments.find_python(peer.environment)
        if python is None:
            raise NotInstalledError(f"attnbench bench peers install {peer.environment}")
        self._folder = folder = create_temporary_folder(self)
        (folder / "attnbench").symlink_to(_PACKAGE)  # makes only this package importable, not its neighbors
        self._answers, theirs = os.pipe()
        (folder / "job.json").write_text(json.dumps(job | {"answers": theirs}), "utf-8")
        threads = str(job["threads"])
        variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **peer.variables}
        if peer.environment is not None:
            variables["PYTHONPATH"] = str(folder)
        module = f"attnbench.benchmarks.peers.{peer.module}"
        with (folder / _OUTPUT_FILE).open("w") as output:
            self._child = subprocess.Popen(
                [python, "-W", "ignore", "-m", module, folder / "job.json"],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(theirs,),
                env=os.environ | variables,
            )
        os.close(theirs)
        self._pending = b""
        self.greeting = self._read_answer()

    def request(self, what: str) -> dict[str, Any]:
        """Request one turn and return the answer."""
        assert self._child.stdin is not None, "it was opened as a pipe"
        try:
            self._child.stdin.write(what.encode() + b"\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            self._fail("ended")
        return self._read_answer()

    def close(self) -> None:
        """Close the pipes, upon which the process ends."""
        with self._child:  # closes its stdin, and waits
            os.close(self._answers)

    def _read_answer(self) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while not self._pending.endswith(b"\n"):
                if not selector.select(_TIMEOUT_SECONDS):
                    self._fail(f"no answer within {_TIMEOUT_SECONDS:.0f} seconds")
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
        output = (self._folder / _OUTPUT_FILE).read_text("utf-8", "replace").strip().splitlines()
        raise RuntimeError(f"{what}: {output[-1] if output else 'nothing said'}")


def _select_cores(threads: int) -> list[int] | None:
    """Return the last of the usable cores, one per thread; None if the system cannot pin processes."""
    return sorted(os.sched_getaffinity(0))[-threads:] if hasattr(os, "sched_getaffinity") else None
