"""Side of a peer process: it works in turns and reports how much it did in what time.

It needs only the standard library, and torch for a profile, because each peer has its own environment. The job is a
JSON file; a turn is requested by a line on stdin ("go" or "profile") and answered by a line of JSON through a pipe.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Job = dict[str, Any]

# Kind of an operator by its name; the first match counts. The remaining time is outside of operators.
_OPERATOR_KINDS = {
    "matmul": ("mm", "matmul", "linear", "conv", "dot_product", "flash", "onednn", "mkldnn", "gru", "einsum"),
    "optimizer": ("_fused_", "_foreach_", "clip_grad"),
}
KINDS = (*_OPERATOR_KINDS, "other_operators", "outside_operators")


class Turns:
    """Turns of a peer: `count_units` is called after each piece of work, and waits there while other peers work."""

    def __init__(self, *packages: str) -> None:
        """Read the job.

        Args:
            packages: packages whose versions the table lists.
        """
        self.job: Job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
        if self.job["cores"] is not None:
            os.sched_setaffinity(0, self.job["cores"])
        self._packages = list(packages)
        self._answers = os.fdopen(self.job["answers"], "w", encoding="utf-8")
        self._warmup = int(self.job["warmup"])
        self._profiler: Any = None
        self._units, self._began = 0.0, 0.0

    def add_package(self, package: str) -> None:
        """Add a package whose version the table lists."""
        self._packages.append(package)

    def report_ready(self, **more: Any) -> None:
        """Report versions, and wait for the first turn.

        Args:
            more: further content of the report.
        """
        self._warmup = 0
        self._send({"versions": {name: importlib.metadata.version(name) for name in self._packages}, **more})
        self._wait_for_request()

    def count_units(self, units: float) -> None:
        """Count work; when the time of the turn is over, end it and wait for the next one.

        Args:
            units: amount of work done.
        """
        if self._warmup:
            self._warmup -= 1
            if self._warmup == 0:
                self.report_ready()
            return
        self._units += units
        seconds = time.perf_counter() - self._began
        if seconds >= self.job["seconds"]:
            self._end_turn(seconds)

    def run_decoding(self, decode: Callable[[], list[list[int]]]) -> None:
        """Decode in turns, without end.

        Args:
            decode: returns token ids without BOS and EOS; its first result is reported.
        """
        self.report_ready(hypotheses=decode())
        while True:
            self.count_units(len(decode()))

    def _end_turn(self, seconds: float) -> None:
        answer: dict[str, Any] = {"units": self._units, "seconds": seconds}
        if self._profiler is not None:
            answer["profile"] = self._compute_time_shares(seconds)
        # KiB on Linux, bytes on macOS
        answer["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (
            20 if sys.platform == "darwin" else 10
        )
        self._send(answer)
        self._wait_for_request()

    def _wait_for_request(self) -> None:
        request = sys.stdin.readline().strip()
        if not request:
            self._answers.close()
            os._exit(0)  # the caller is inside the training loop of another library
        self._units = 0.0
        if request == "profile":
            from torch.profiler import ProfilerActivity, profile

            self._profiler = profile(activities=[ProfilerActivity.CPU])
            self._profiler.start()
        self._began = time.perf_counter()

    def _compute_time_shares(self, seconds: float) -> dict[str, float]:
        self._profiler.stop()
        found = dict.fromkeys(KINDS, 0.0)
        for event in self._profiler.key_averages():
            kind = next(
                (k for k, parts in _OPERATOR_KINDS.items() if any(p in event.key for p in parts)), "other_operators"
            )
            if event.key.startswith("aten::") or kind != "other_operators":
                found[kind] += event.self_cpu_time_total / 1e6 / seconds
        self._profiler = None
        found["outside_operators"] = max(0.0, 1 - sum(found.values()))
        return found

    def _send(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()
