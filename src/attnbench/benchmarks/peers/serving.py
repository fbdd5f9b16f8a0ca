"""What a contender's process does: take turns with the others, and say how much it did in which time.

The standard library alone, and torch for a profile: each contender has an environment of its own. A job is a JSON file;
a turn is asked for by a line on stdin ("go", or "profile"), and answered by a line of JSON through a pipe of its own.
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

# Where the time of an operator goes; first match. What is left of the clock is spent outside of all of them.
_KINDS = {
    "matmul": ("mm", "matmul", "linear", "conv", "dot_product", "flash", "onednn", "mkldnn", "gru", "einsum"),
    "optimizer": ("_fused_", "_foreach_", "clip_grad"),
}
KINDS = (*_KINDS, "other_operators", "outside_operators")


class Turns:
    """A contender's turns: `update` is called after each piece of work, and waits there while others work."""

    def __init__(self, *packages: str) -> None:
        """`packages`: those whose versions the table tells."""
        self.job: Job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
        if self.job["cores"] is not None:
            os.sched_setaffinity(0, self.job["cores"])
        self._packages = list(packages)
        self._answers = os.fdopen(self.job["answers"], "w", encoding="utf-8")
        self._warmup = int(self.job["warmup"])
        self._profiler: Any = None
        self._units, self._began = 0.0, 0.0

    def add(self, package: str) -> None:
        """One more package whose version the table tells."""
        self._packages.append(package)

    def ready(self, **more: Any) -> None:
        """Say which versions there are, and wait for the first turn."""
        self._warmup = 0
        self._tell({"versions": {name: importlib.metadata.version(name) for name in self._packages}, **more})
        self._wait()

    def update(self, units: float) -> None:
        """So much was done. Ends the turn when its time is up; then this waits for the next one."""
        if self._warmup:
            self._warmup -= 1
            if self._warmup == 0:
                self.ready()
            return
        self._units += units
        seconds = time.perf_counter() - self._began
        if seconds >= self.job["seconds"]:
            self._end(seconds)

    def repeat(self, decode: Callable[[], list[list[int]]]) -> None:
        """Turns of decoding, forever: the first results are kept, as token ids without BOS and EOS."""
        self.ready(hypotheses=decode())
        while True:
            self.update(len(decode()))

    def _end(self, seconds: float) -> None:
        answer: dict[str, Any] = {"units": self._units, "seconds": seconds}
        if self._profiler is not None:
            answer["profile"] = self._shares(seconds)
        # Linux counts it in KiB, macOS in bytes.
        answer["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (
            20 if sys.platform == "darwin" else 10
        )
        self._tell(answer)
        self._wait()

    def _wait(self) -> None:
        asked = sys.stdin.readline().strip()
        if not asked:
            self._answers.close()
            os._exit(0)  # whatever loop this stands in
        self._units = 0.0
        if asked == "profile":
            from torch.profiler import ProfilerActivity, profile

            self._profiler = profile(activities=[ProfilerActivity.CPU])
            self._profiler.start()
        self._began = time.perf_counter()

    def _shares(self, seconds: float) -> dict[str, float]:
        self._profiler.stop()
        found = dict.fromkeys(KINDS, 0.0)
        for event in self._profiler.key_averages():
            kind = next((k for k, parts in _KINDS.items() if any(p in event.key for p in parts)), "other_operators")
            if event.key.startswith("aten::") or kind != "other_operators":
                found[kind] += event.self_cpu_time_total / 1e6 / seconds
        self._profiler = None
        found["outside_operators"] = max(0.0, 1 - sum(found.values()))
        return found

    def _tell(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()
