"""Read table.yaml (what a table shows and its figures draw) and paper.yaml (published numbers)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from attnbench.records.record import RecordError, build_dataclass
from attnbench.reporting.figure_specs import FigureLayout, check_figures
from attnbench.reporting.keys import EXPECTED_PATH, RECORD_FIELDS, Best, RowKey, values_equal

LAYOUT_FILE = "table.yaml"


class Spread(Enum):
    """Text behind a mean."""

    std = "std"  # sample standard deviation over seeds
    interval = "interval"  # Student's 95 % confidence interval of the mean, from three seeds on
    none = "none"


class Bold(Enum):
    """Choice of bold cells, in columns that say which direction is better."""

    best = "best"  # the best mean
    not_worse = "not_worse"  # also means that the test over seeds does not distinguish from it


@dataclass(frozen=True)
class Column:
    """Table column: a path in a record, such as metrics.test.bleu or config.model.depth, averaged over seeds."""

    key: str
    label: str | None = None  # null: the key's last part
    unit: str | None = None
    digits: int | None = None  # after the point; null: 2, and whole numbers whole
    scale: float = 1.0  # what is shown is the value times this: 1.0e-6 for millions
    best: Best | None = None  # which end is set in bold
    above: str | None = None  # a place in the record too: where the value exceeds it, the cell says `flag`
    flag: str = "diverged"
    spread: Spread = Spread.std
    margin: float | None = None  # largest difference that counts as the same, in the unit of the record
    change: bool = False  # also show the difference to the baseline, for our and for published numbers

    @property
    def heading(self) -> str:
        """Label and unit."""
        label = self.label or self.key.rpartition(".")[2].replace("_", " ")
        return f"{label} ({self.unit})" if self.unit else label


@dataclass(frozen=True)
class RowGroup:
    """Group of rows that differ from the baseline in these keys only."""

    label: str
    keys: list[str]


@dataclass(frozen=True)
class Layout:
    """Content of table.yaml."""

    title: str | None = None  # null: the sweep's name
    rows: list[RowKey] = field(default_factory=list)  # none: every key that differs
    columns: list[Column] = field(default_factory=list)  # none: the test metrics, parameters, throughput
    where: dict[str, Any] = field(default_factory=dict)  # config key: value; other runs are left out
    baseline: dict[str, Any] = field(default_factory=dict)  # config key: value, of the row others are compared with
    groups: list[RowGroup] = field(default_factory=list)  # values equal to the baseline's are left empty
    bold: Bold = Bold.best
    paper: str | None = None  # a file beside table.yaml
    figures: list[FigureLayout] = field(default_factory=list)


@dataclass(frozen=True)
class Publication:
    """Publication, and how its protocol differs from ours."""

    citation: str
    protocol: str
    comparable: bool = True  # false: other data or another score; no difference is shown


@dataclass(frozen=True)
class PublishedNumbers:
    """Published numbers of one source by column key, for rows whose config matches `where`."""

    source: str
    where: dict[str, Any]
    values: dict[str, float]


@dataclass(frozen=True)
class Paper:
    """Content of paper.yaml."""

    sources: dict[str, Publication] = field(default_factory=dict)
    numbers: list[PublishedNumbers] = field(default_factory=list)

    def get_published(self, config: Mapping[str, Any], column: str) -> Iterator[tuple[str, float]]:
        """Yield source and number for a column of a row with this flat config.

        Args:
            config: flat config of a row.
            column: key of the column.
        """
        for number in self.numbers:
            if column in number.values and config_matches(config, number.where):
                yield number.source, number.values[column]


def read_layout(folder: Path) -> tuple[Layout, Paper]:
    """Read table.yaml in a folder, and the paper.yaml that it names.

    Args:
        folder: experiments/<table>/.

    Returns:
        Layout and published numbers; both empty if there is no table.yaml.

    Raises:
        RecordError: a file cannot be read or has a wrong key; the message names both.
    """
    path = folder / LAYOUT_FILE
    if not path.is_file():
        return Layout(), Paper()
    content = _read_yaml(path)
    figures = content.get("figures")
    drawn = [figure for figure in figures if isinstance(figure, dict)] if isinstance(figures, list) else []
    for holder, part in [(content, "rows"), (content, "columns"), *((figure, "group") for figure in drawn)]:
        if isinstance(holder.get(part), list):  # `- model.depth` is short for `- key: model.depth`
            holder[part] = [{"key": item} if isinstance(item, str) else item for item in holder[part]]
    layout = build_dataclass(Layout, content, str(path))
    for column in layout.columns:
        for place in filter(None, (column.key, column.above)):
            if place.partition(".")[0] not in RECORD_FIELDS:
                raise RecordError(f"{path}: columns: {place}: {EXPECTED_PATH}")
    if layout.groups and not layout.baseline:
        raise RecordError(f"{path}: groups: expected `baseline` too")
    check_figures(layout.figures, path)
    return layout, Paper() if layout.paper is None else _read_paper(folder / layout.paper)


def config_matches(config: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Return True if a flat config has all values of `where`."""
    return all(key in config and values_equal(config[key], value) for key, value in where.items())


def _read_paper(path: Path) -> Paper:
    paper = build_dataclass(Paper, _read_yaml(path), str(path))
    for index, number in enumerate(paper.numbers):
        if number.source not in paper.sources:
            known = ", ".join(sorted(paper.sources)) or "none"
            raise RecordError(f"{path}: numbers[{index}]: source: {number.source}: expected one of sources: {known}")
    return paper


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: expected keys with values, given {content!r:.60}")
    return content
