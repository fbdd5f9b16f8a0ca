"""Bins of a test set by length: their order, and merging of small neighboring bins before a figure is drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from attnbench.reporting.cells import get_record_value, is_number
from attnbench.reporting.runs import Run

COUNT_KEY = "sentences"  # key of a bin's number of sentences
_RANGE = re.compile(r"(\d+)(?:-(\d+)|(\+))?")  # 6-10, 31+ or 7

BinNumbers = Mapping[str, Any]  # numbers of one run by bin name


def find_bins(runs: Sequence[Run], record_path: str) -> tuple[list[str], list[BinNumbers]]:
    """Find the bins at a path of the records of finished runs.

    Args:
        runs: runs of the figure.
        record_path: dotted path in the record.

    Returns:
        Bin names in order, and the bins of each run.
    """
    found = [run.record for run in runs if run.record is not None and run.is_finished]
    bins = [held for record in found if isinstance(held := get_record_value(record, record_path), Mapping)]
    names = list(dict.fromkeys(name for held in bins for name in held))
    stems = list(dict.fromkeys(map(_remove_digits, names)))
    return sorted(names, key=lambda name: (stems.index(_remove_digits(name)), _sort_key(name))), bins


def count_sentences(name: str, bins: Sequence[BinNumbers]) -> list[int]:
    """Collect the number of sentences of a bin in each run; empty if bins are of something else, such as layers."""
    found = [held[name].get(COUNT_KEY) for held in bins if isinstance(held.get(name), Mapping)]
    return [count for count in found if is_number(count)]


def format_range(counts: Sequence[int]) -> str:
    """Format counts as `12`, or `12 to 14` if they differ; empty text for no counts."""
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def merge_small_bins(runs: Sequence[Run], record_path: str, min_count: int) -> tuple[Sequence[Run], tuple[str, ...]]:
    """Merge neighboring bins until each has at least `min_count` sentences, in the same way for all runs.

    Args:
        runs: runs of the figure.
        record_path: dotted path of the bins in the record.
        min_count: smallest number of sentences of a bin.

    Returns:
        Copies of the runs with merged bins, and a sentence about the merging; the given runs and no sentence if no
        bin is too small.
    """
    names, bins = find_bins(runs, record_path)
    parts = _group_small_bins(names, bins, min_count)

    def counted(name: str) -> str:
        return f"{name} ({format_range(count_sentences(name, bins))})"

    merged = [f"{_name_merged_bin(part)} of {', '.join(map(counted, part))}" for part in parts if len(part) > 1]
    if not merged:
        return runs, ()
    remark = (
        f"Bins of fewer than {min_count} {COUNT_KEY} are merged with their neighbors: {'; '.join(merged)}. The number"
        f" of a merged bin is the mean of its bins' numbers, weighted by their {COUNT_KEY}."
    )
    return [_replace_bins(run, record_path, parts) for run in runs], (remark,)


def _group_small_bins(names: Sequence[str], bins: Sequence[BinNumbers], min_count: int) -> list[list[str]]:
    """Divide neighboring bins into groups of at least `min_count` sentences in every run.

    From the shortest bin on, a group takes in bins until it is large enough; a last group that is too small joins the
    one before.
    """
    parts: list[list[str]] = []
    sizes: list[float] = []  # infinite if sentences are not counted: nothing is merged
    for name in names:
        size = float(min(count_sentences(name, bins), default=math.inf))
        if parts and sizes[-1] < min_count:
            parts[-1].append(name)
            sizes[-1] += size
        else:
            parts.append([name])
            sizes.append(size)
    if len(parts) > 1 and sizes[-1] < min_count:
        last = parts.pop()
        parts[-1] += last
    return parts


def _name_merged_bin(part: Sequence[str]) -> str:
    """Name the range of several bins: `1-10` of `1-5` and `6-10`, `21+` of `21-25` and `26+`."""
    first, last = _RANGE.fullmatch(part[0]), _RANGE.fullmatch(part[-1])
    if len(part) == 1:
        return part[0]
    if first is None or last is None:
        return f"{part[0]} to {part[-1]}"
    return f"{first[1]}+" if last[3] else f"{first[1]}-{last[2] or last[1]}"


def _replace_bins(run: Run, record_path: str, parts: Sequence[Sequence[str]]) -> Run:
    """Return a copy of `run` whose record has merged bins at `record_path`; the run itself where it has no bins."""
    if run.record is None or not isinstance(found := get_record_value(run.record, record_path), Mapping):
        return run
    merged: dict[str, Any] = {}
    for part in parts:
        held = [found[name] for name in part if isinstance(found.get(name), Mapping)]
        if held:
            merged[_name_merged_bin(part)] = held[0] if len(part) == 1 else _average_bins(held)
    root, *inner = record_path.split(".")
    return replace(
        run, record=replace(run.record, **{root: _replace_at_path(getattr(run.record, root), inner, merged)})
    )


def _average_bins(held: Sequence[BinNumbers]) -> dict[str, Any]:
    """Average the numbers of several bins, weighted by their sentences; a number that one bin lacks is left out."""
    weights: list[Any] = [count for one in held if is_number(count := one.get(COUNT_KEY))]
    total = sum(weights)
    if len(weights) < len(held) or total <= 0:
        return {}
    mean = {
        key: sum(weight * one[key] for weight, one in zip(weights, held, strict=True)) / total
        for key in held[0]
        if all(is_number(one.get(key)) for one in held)
    }
    return mean | {COUNT_KEY: total}


def _replace_at_path(content: Mapping[str, Any], path: Sequence[str], value: Any) -> Any:
    """Return a copy of nested `content` with `value` at `path`."""
    if not path:
        return value
    return {**content, path[0]: _replace_at_path(content[path[0]], path[1:], value)}


def _remove_digits(name: str) -> str:
    """Return the name without digits: the part that `encoder 1` and `encoder 12` share."""
    return re.sub(r"\d+", "", name) if name[:1].isalpha() else ""


def _sort_key(name: str) -> tuple[list[int], str]:
    """Return a key that sorts `6-10` before `11-15` and both before `31+`."""
    return [int(digits) for digits in re.findall(r"\d+", name)], name
