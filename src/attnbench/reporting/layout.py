"""table.yaml and paper.yaml: what a table shows and its figures draw, and which published numbers stand beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from attnbench.records.record import RecordError, build_dataclass
from attnbench.reporting.figure_specs import FigureLayout, check_figures
from attnbench.reporting.keys import EXPECTED, ROOTS, Best, RowKey, same

LAYOUT = "table.yaml"


class Spread(Enum):
    """What stands behind a mean."""

    std = "std"  # sample standard deviation over seeds
    interval = "interval"  # Student's 95 % confidence interval of the mean, from three seeds on
    none = "none"


class Bold(Enum):
    """What is set in bold, of a column that says which end is better."""

    best = "best"  # the best mean
    not_worse = "not_worse"  # and every one that the test over seeds does not tell from it


@dataclass(frozen=True)
class Column:
    """A place in a record, such as metrics.test.bleu or config.model.depth, averaged over seeds."""

    key: str
    label: str | None = None  # null: the key's last part
    unit: str | None = None
    digits: int | None = None  # after the point; null: 2, and whole numbers whole
    scale: float = 1.0  # what is shown is the value times this: 1.0e-6 for millions
    best: Best | None = None  # which end is set in bold
    above: str | None = None  # a place in the record too: where the value exceeds it, the cell says `flag`
    flag: str = "diverged"
    spread: Spread = Spread.std
    change: bool = False  # beside it, how far ours and the published number are each from its own baseline

    @property
    def heading(self) -> str:
        """Label and unit."""
        label = self.label or self.key.rpartition(".")[2].replace("_", " ")
        return f"{label} ({self.unit})" if self.unit else label


@dataclass(frozen=True)
class Group:
    """Rows that stand together since they differ from the baseline in these keys and in no other."""

    label: str
    keys: list[str]


@dataclass(frozen=True)
class Layout:
    """What table.yaml says."""

    title: str | None = None  # null: the sweep's name
    rows: list[RowKey] = field(default_factory=list)  # none: every key that differs
    columns: list[Column] = field(default_factory=list)  # none: the test metrics, parameters, throughput
    where: dict[str, Any] = field(default_factory=dict)  # config key: value; other runs are left out
    baseline: dict[str, Any] = field(default_factory=dict)  # config key: value, of the row others are compared with
    groups: list[Group] = field(default_factory=list)  # of a baseline's row: what is as there is not printed again
    bold: Bold = Bold.best
    paper: str | None = None  # a file beside table.yaml
    figures: list[FigureLayout] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A publication, and how its numbers differ from ours in the way they were obtained."""

    citation: str
    protocol: str
    comparable: bool = True  # false: of other data or another score, so that ours less theirs says nothing


@dataclass(frozen=True)
class Published:
    """Numbers of a source, by column key, for the rows whose config agrees with `where`."""

    source: str
    where: dict[str, Any]
    values: dict[str, float]


@dataclass(frozen=True)
class Paper:
    """What paper.yaml says."""

    sources: dict[str, Source] = field(default_factory=dict)
    numbers: list[Published] = field(default_factory=list)

    def beside(self, config: Mapping[str, Any], column: str) -> Iterator[tuple[str, float]]:
        """Source and number, for a column of a row with this flat config."""
        for number in self.numbers:
            if column in number.values and agrees(config, number.where):
                yield number.source, number.values[column]


def read_layout(folder: Path) -> tuple[Layout, Paper]:
    """The layout in experiments/<table>/, and its paper; both empty where there is none.

    Raises:
        RecordError: names the file and the key that is wrong.
    """
    path = folder / LAYOUT
    if not path.is_file():
        return Layout(), Paper()
    content = _load(path)
    figures = content.get("figures")
    drawn = [figure for figure in figures if isinstance(figure, dict)] if isinstance(figures, list) else []
    for holder, part in [(content, "rows"), (content, "columns"), *((figure, "group") for figure in drawn)]:
        if isinstance(holder.get(part), list):  # `- model.depth` is short for `- key: model.depth`
            holder[part] = [{"key": item} if isinstance(item, str) else item for item in holder[part]]
    layout = build_dataclass(Layout, content, str(path))
    for column in layout.columns:
        for place in filter(None, (column.key, column.above)):
            if place.partition(".")[0] not in ROOTS:
                raise RecordError(f"{path}: columns: {place}: {EXPECTED}")
    if layout.groups and not layout.baseline:
        raise RecordError(f"{path}: groups: expected a baseline, which their rows differ from")
    check_figures(layout.figures, path)
    return layout, Paper() if layout.paper is None else _read_paper(folder / layout.paper)


def agrees(config: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a flat config has every value that `where` asks for."""
    return all(key in config and same(config[key], value) for key, value in where.items())


def _read_paper(path: Path) -> Paper:
    paper = build_dataclass(Paper, _load(path), str(path))
    for index, number in enumerate(paper.numbers):
        if number.source not in paper.sources:
            known = ", ".join(sorted(paper.sources)) or "none"
            raise RecordError(f"{path}: numbers[{index}]: source: {number.source}: expected one of sources: {known}")
    return paper


def _load(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: expected keys with values, given {content!r:.60}")
    return content
