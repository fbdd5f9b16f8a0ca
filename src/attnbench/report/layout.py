"""table.yaml and paper.yaml: what a table shows and its figures draw, and which published numbers stand beside ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from attnbench.record import Record, RecordError, build

LAYOUT = "table.yaml"
_ROOTS = frozenset(field.name for field in fields(Record))
_EXPECTED = f"expected a path that begins with {', '.join(sorted(_ROOTS))}"


class Best(Enum):
    """Which end of a column is better."""

    max = "max"
    min = "min"


@dataclass(frozen=True)
class RowKey:
    """A config key, such as model.num_heads, whose values name the rows, or the lines of a figure."""

    key: str
    label: str | None = None  # null: the key
    values: dict[Any, str] = field(default_factory=dict)  # what a value is called; these come first, in this order

    def text(self, value: Any) -> str:
        """What a config value is called: its name here, else as it is typed."""
        named = [name for asked, name in self.values.items() if _same(value, asked)]
        if named:
            return named[0]
        if value is None:
            return "null"
        return str(value).lower() if isinstance(value, bool) else str(value)

    def rank(self, value: Any) -> int:
        """The place of a value among those that have a name here, or the one behind them."""
        return next((place for place, asked in enumerate(self.values) if _same(value, asked)), len(self.values))


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

    @property
    def heading(self) -> str:
        """Label and unit."""
        label = self.label or self.key.rpartition(".")[2].replace("_", " ")
        return f"{label} ({self.unit})" if self.unit else label


class FigureKind(Enum):
    """What stands along the axis of a figure."""

    bins = "bins"  # what stands at the * in y's key: bins of lengths, or layers
    lines = "lines"  # the values of a config key


@dataclass(frozen=True)
class FigureLayout:
    """A drawing beside the table, a line for each setting of everything but the seed."""

    name: str  # its files are <name>.pdf and <name>.png
    kind: FigureKind
    y: str  # a place in a record: metrics.test.bleu, or metrics.test.by_source_words.*.bleu
    x: str | None = None  # lines: a config key
    group: list[RowKey] = field(default_factory=list)  # whose values make a line each; none: every key that differs
    where: dict[str, Any] = field(default_factory=dict)  # config key: value; other runs are left out
    title: str | None = None  # null: none
    x_label: str | None = None  # null: the key's last part, or the mapping's name
    y_label: str | None = None  # null: the key's last part
    log: bool = False  # lines: a logarithmic axis
    log_y: bool = False

    @property
    def keys(self) -> list[RowKey]:
        """The config keys that part its points."""
        return self.group if self.x is None else [*self.group, RowKey(self.x)]

    def fault(self) -> str | None:
        """What cannot be drawn, in words, or None."""
        if re.fullmatch(r"[\w-]+", self.name) is None:
            return "name: expected letters, digits, - and _"
        if self.y.partition(".")[0] not in _ROOTS:
            return f"y: {self.y}: {_EXPECTED}"
        wanted = 1 if self.kind is FigureKind.bins else 0
        if self.y.split(".").count("*") != wanted:
            return f"y: {self.y}: kind {self.kind.name} expects {'one' if wanted else 'no'} * in it"
        if (self.x is None) is not (self.kind is FigureKind.bins):
            return "x: lines has one, bins has none"
        if self.log and self.x is None:
            return "log: bins has no numbers along its axis"
        return None


@dataclass(frozen=True)
class Layout:
    """What table.yaml says."""

    title: str | None = None  # null: the sweep's name
    rows: list[RowKey] = field(default_factory=list)  # none: every key that differs
    columns: list[Column] = field(default_factory=list)  # none: the test metrics, parameters, throughput
    where: dict[str, Any] = field(default_factory=dict)  # config key: value; other runs are left out
    paper: str | None = None  # a file beside table.yaml
    figures: list[FigureLayout] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A publication, and how its numbers differ from ours in the way they were obtained."""

    citation: str
    protocol: str


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
    layout = build(Layout, content, str(path))
    for column in layout.columns:
        if column.key.partition(".")[0] not in _ROOTS:
            raise RecordError(f"{path}: columns: {column.key}: {_EXPECTED}")
    for index, figure in enumerate(layout.figures):
        twice = figure.name in [other.name for other in layout.figures[:index]]
        fault = "name: another figure has it" if twice else figure.fault()
        if fault is not None:
            raise RecordError(f"{path}: figures[{index}]: {figure.name}: {fault}")
    return layout, Paper() if layout.paper is None else _read_paper(folder / layout.paper)


def agrees(config: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a flat config has every value that `where` asks for."""
    return all(key in config and _same(config[key], value) for key, value in where.items())


def _read_paper(path: Path) -> Paper:
    paper = build(Paper, _load(path), str(path))
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


def _same(ours: Any, asked: Any) -> bool:
    """Equality; YAML 1.1 takes 1e-3 for text, and true is no 1."""
    if isinstance(asked, str) and isinstance(ours, float):
        try:
            return ours == float(asked)
        except ValueError:
            return False
    return isinstance(ours, bool) == isinstance(asked, bool) and bool(ours == asked)
