"""Write docs/config.md: type, default, range and meaning of every config key, from the schema in attnbench.config.

Usage: python docs/generate_config_reference.py
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from attnbench.config import Config
from attnbench.config.fields import describe_bounds, describe_type, get_type_hints
from attnbench.config.root import SCHEMAS

TARGET = Path(__file__).parent / "config.md"
HEAD = """# Config keys

This page is generated from the schema (`python docs/generate_config_reference.py`). Every key can be set on the command
line: `attnbench train model.depth=4`. `attnbench train --help` lists the values of each group.
"""


def read_comments(kind: type) -> dict[str, str]:
    """Return the comment of each field in a dataclass: behind it, or in the lines above it.

    Args:
        kind: a dataclass.
    """
    comments: dict[str, str] = {}
    above: list[str] = []
    name, depth = "", 0
    for line in inspect.getsource(kind).splitlines():
        code, _, comment = line.partition("  # ")
        if line.strip().startswith("# "):
            above.append(line.strip()[2:])
            continue
        found = re.match(r"    (\w+): ", line)
        if found and depth == 0:
            name = found[1]
            if above:
                comments[name] = " ".join(above)
        above = []
        depth += sum(code.count(c) for c in "([{") - sum(code.count(c) for c in ")]}")
        if name and comment:
            comments[name] = f"{comments[name]} {comment.strip()}" if name in comments else comment.strip()
    return comments


def describe_enum(hint: Any) -> str:
    """Return the description of an Enum; empty for other types."""
    return (inspect.getdoc(hint) or "").split("\n")[0] if inspect.isclass(hint) and issubclass(hint, Enum) else ""


def format_value(value: Any) -> str:
    """Return a default as YAML has it."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def format_rows(kind: type, group: str) -> Iterator[str]:
    """Yield a table row for each field of a dataclass."""
    hints = get_type_hints(kind)
    comments: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if dataclasses.is_dataclass(base):
            comments |= read_comments(base)
    for field in dataclasses.fields(kind):
        if field.name == "family":
            continue
        if dataclasses.is_dataclass(hints[field.name]):
            if group:  # the groups of Config have sections of their own
                yield from format_rows(hints[field.name], f"{group}{field.name}.")
            continue
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
        shown = "required" if default == "???" else f"`{format_value(default)}`" if default != "" else ""
        values = describe_type(hints[field.name]).removeprefix("one of ")
        bounds = describe_bounds(field)
        limits = f"{values}; {bounds}" if bounds else values
        cells = [f"`{group}{field.name}`", shown, limits, comments.get(field.name) or describe_enum(hints[field.name])]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def format_section(title: str, kind: type, group: str) -> str:
    """Return heading, description and table of a dataclass."""
    summary = (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")
    rows = list(format_rows(kind, group))
    table = ["| key | default | values | meaning |", "| --- | --- | --- | --- |", *rows] if rows else ["No keys."]
    return "\n".join([f"## {title}", "", summary, "", *table, ""])


def format_page() -> str:
    """Return the whole page."""
    sections = [format_section("Run", Config, "")]
    hints = get_type_hints(Config)
    for field in dataclasses.fields(Config):
        if field.name in SCHEMAS:
            for name, kind in SCHEMAS[field.name].items():
                sections.append(format_section(f"{field.name}: {name}", kind, f"{field.name}."))
        elif dataclasses.is_dataclass(hints[field.name]):
            sections.append(format_section(field.name, hints[field.name], f"{field.name}."))
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    TARGET.write_text(format_page(), encoding="utf-8")
