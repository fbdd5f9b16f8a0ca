"""What a task returns beside losses: test results, sample outputs and pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from attnbench.data.text_files import write_lines

OUTPUT_FOLDER = "outputs"  # below a run's folder


@dataclass(frozen=True)
class TestResult:
    """One test set, evaluated once."""

    name: str  # test; of a further one its own
    report: dict[str, Any]  # its scores
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # source, reference, hypothesis: a line an example

    def write_outputs(self, folder: Path) -> None:
        """Write <folder>/outputs/<name>.<column>.txt for each column of text, each file whole or not at all."""
        (folder / OUTPUT_FOLDER).mkdir(exist_ok=True)
        for column, lines in self.texts.items():
            path = folder / OUTPUT_FOLDER / f"{self.name}.{column}.txt"
            draft = path.with_name(f".{path.name}.tmp")
            write_lines(draft, lines)
            os.replace(draft, path)


@dataclass(frozen=True)
class Sample:
    """One input, what was expected and what came."""

    source: str
    reference: str
    hypothesis: str


class Figure(Protocol):
    """Something to look at, and the numbers behind it."""

    @property
    def name(self) -> str:
        """The file's stem, such as "encoder-0": no two pictures of a module share one."""
        ...

    def to_arrays(self) -> dict[str, np.ndarray]:
        """What is drawn, by name: arrays of numbers or text, never of objects. Empty: other pictures have it all."""
        ...

    def save(self, path: Path) -> None:
        """Write a PNG."""
        ...
