"""Results of a task besides losses: test results, sample outputs and figures."""

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
    """Result of one test set."""

    name: str  # `test`, or the name of a further test set
    report: dict[str, Any]  # its scores
    texts: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # source, reference, hypothesis: one line per example

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
    """Input, reference and output of one example."""

    source: str
    reference: str
    hypothesis: str


class Figure(Protocol):
    """Interface of figures that a run stores."""

    @property
    def name(self) -> str:
        """File name without suffix, such as "encoder-0", unique within a module."""
        ...

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the data of the figure as arrays of numbers or text by name; empty if other figures have all of it."""
        ...

    def save(self, path: Path) -> None:
        """Write a PNG."""
        ...
