"""Faults in the user's own config files, with file, line and key; Hydra and YAML report only some of them."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from attnbench.config import Config
from attnbench.config.fields import describe_type, get_type_hints
from attnbench.config.root import SCHEMAS

_GLOBAL_GROUPS = ("experiment", "sweep", "variation")  # groups whose files set keys of the whole config
_PACKAGE = re.compile(r"#\s*@package\s+_global_\s*$", re.MULTILINE)
_BYTE_ORDER_MARK = "\ufeff"
_TEXT_READ_OTHERWISE = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def find_fault(file: Path, group: str, key: str | None = None) -> str | None:
    """Find the reason why a file does not compose, or sets something else than it seems to.

    Args:
        file: YAML file.
        group: config group that it belongs to.
        key: key that Hydra named when it refused the file; None: the file composes.

    Returns:
        `file:line: ` and a sentence; None if nothing is found.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return f"{file}: byte {error.start} is not UTF-8"
    except OSError as error:
        return f"{file}: {error.strerror}"
    if text.startswith(_BYTE_ORDER_MARK):
        fault = "starts with a byte order mark, so that Hydra does not find `# @package`: save the file without it"
        return f"{file}:1: {fault}"
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        return _describe_syntax(file, text, error)
    except yaml.YAMLError as error:
        return f"{file}: {error}"
    if root is None:
        return None
    if not isinstance(root, yaml.MappingNode):
        return f"{file}:{root.start_mark.line + 1}: expected keys with values"
    for line, sentence in [*_find_repeated_keys(root), *_find_schema_faults(root, text, group, key)]:
        return f"{file}:{line}: {sentence}"
    return None


def _describe_syntax(file: Path, text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"{file}: {error.problem}"
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"{file}:{mark.line + 1}: a tab before {line.strip()!r}: YAML is indented by spaces"
    return f"{file}:{mark.line + 1}: {error.problem or error.context}"


def _find_repeated_keys(node: yaml.Node, prefix: str = "") -> Iterator[tuple[int, str]]:
    """Yield the line of each key that occurs twice in its mapping."""
    if not isinstance(node, yaml.MappingNode):
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        name = str(key.value)
        if name in first:
            yield key.start_mark.line + 1, f"{prefix}{name} stands here and in line {first[name]}"
        first.setdefault(name, key.start_mark.line + 1)
        yield from _find_repeated_keys(value, f"{prefix}{name}.")


def _find_schema_faults(root: yaml.MappingNode, text: str, group: str, key: str | None) -> Iterator[tuple[int, str]]:
    """Yield keys that the schema does not have, and values that are read differently than they look."""
    own = [str(name.value) for name, _ in root.value]
    fits = all(name == "defaults" or list(_iterate_type_hints([group, name], Config)) for name in own)
    if group in _GLOBAL_GROUPS and not _PACKAGE.search(_get_header(text)) and not fits:
        yield 1, f"its keys are taken for keys of {group}: `# @package _global_` must be its first line"
        return
    is_global = bool(_PACKAGE.search(_get_header(text)))
    if not is_global and "@package" in _get_header(text):
        return
    for path, line, node in _iterate_leaves(root):
        full = path if is_global else f"{group}.{path}"
        if path.split(".")[0] in ("defaults", "hydra"):
            continue
        hints = list(_iterate_type_hints(full.split("."), Config))
        if not hints:
            yield line, f"{full}: no such key"
        elif key is not None and (key == full or full.endswith(f".{key}")):
            yield line, f"{full}: expected {describe_type(hints[0])}, not {node.value!r}"
        elif all(str in (hint, *typing.get_args(hint)) for hint in hints):
            for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
                if _is_read_differently(item):
                    yield (
                        item.start_mark.line + 1,
                        f"{full}: {item.value} is read as a number or a boolean: put text in quotes",
                    )


def _is_read_differently(node: yaml.Node) -> bool:
    if node.tag not in _TEXT_READ_OTHERWISE:
        return False
    return bool(str(yaml.safe_load(node.value)) != node.value)


def _get_header(text: str) -> str:
    """Return the first comment lines, in which Hydra looks for the package."""
    lines = []
    for line in text.splitlines():
        if line.strip() and not line.lstrip().lstrip("#").lstrip().startswith("@"):
            break
        lines.append(line)
    return "\n".join(lines)


def _iterate_leaves(node: yaml.MappingNode, prefix: str = "") -> Iterator[tuple[str, int, yaml.Node]]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _iterate_leaves(value, f"{path}.")
        else:
            yield path, key.start_mark.line + 1, value


def _iterate_type_hints(path: list[str], kind: Any) -> Iterator[Any]:
    """Yield the types that a key may have, one for each family of its group."""
    if not path or kind is Any:  # Any: keys of the user's own, such as those of sweep.tune.params
        yield kind
    elif dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        if path[0] in hints:
            families = SCHEMAS.get(path[0], {}).values() if kind is Config else ()
            for one in (hints[path[0]], *families):
                yield from _iterate_type_hints(path[1:], one)
