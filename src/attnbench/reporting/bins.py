"""Bins of a test set by length: their order, and small ones merged with their neighbours before a figure is drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from attnbench.reporting.cells import is_number, lookup
from attnbench.reporting.runs import Run

COUNT = "sentences"  # the key, beside a bin's scores, of how many sentences it has
_RANGE = re.compile(r"(\d+)(?:-(\d+)|(\+))?")  # 6-10, 31+ or 7

Bins = Mapping[str, Any]  # of one run: by a bin's name its numbers


def find_bins(runs: Sequence[Run], place: str) -> tuple[list[str], list[Bins]]:
    """Find the bins at `place` in the records of finished runs: their names in order, and those of each run."""
    found = [run.record for run in runs if run.record is not None and run.finished]
    bins = [held for record in found if isinstance(held := lookup(record, place), Mapping)]
    names = list(dict.fromkeys(name for held in bins for name in held))
    stems = list(dict.fromkeys(map(_stem, names)))
    return sorted(names, key=lambda name: (stems.index(_stem(name)), _numbers(name))), bins


def count_sentences(name: str, bins: Sequence[Bins]) -> list[int]:
    """Collect how many sentences each run has in a bin; nothing where bins are of something else, such as layers."""
    found = [held[name].get(COUNT) for held in bins if isinstance(held.get(name), Mapping)]
    return [count for count in found if is_number(count)]


def range_text(counts: Sequence[int]) -> str:
    """Write `12`, or `12 to 14` where counts differ, or nothing where there are none."""
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def merge_small_bins(runs: Sequence[Run], place: str, least: int) -> tuple[Sequence[Run], tuple[str, ...]]:
    """Merge neighbouring bins at `place` until each has `least` sentences, in all runs alike.

    Returns:
        Copies of the runs with merged bins in their records, and a sentence about what was merged; the runs as they are
        and no sentence where no bin is too small.
    """
    names, bins = find_bins(runs, place)
    parts = _divide(names, bins, least)
    merged = [
        f"{_merged_name(part)} of {', '.join(f'{name} ({range_text(count_sentences(name, bins))})' for name in part)}"
        for part in parts
        if len(part) > 1
    ]
    if not merged:
        return runs, ()
    remark = (
        f"Bins of fewer than {least} {COUNT} are merged with their neighbours: {'; '.join(merged)}. The number of a"
        f" merged bin is the mean of its bins' numbers, weighted by their {COUNT}."
    )
    return [_with_merged_bins(run, place, parts) for run in runs], (remark,)


def _divide(names: Sequence[str], bins: Sequence[Bins], least: int) -> list[list[str]]:
    """Divide neighbouring bins into parts of at least `least` sentences in every run that has them.

    From the shortest on, a part takes in bins until it has enough; a last one that has too few joins the one before.
    """
    parts: list[list[str]] = []
    sizes: list[float] = []  # infinite where no sentences are counted, so that nothing is merged
    for name in names:
        size = float(min(count_sentences(name, bins), default=math.inf))
        if parts and sizes[-1] < least:
            parts[-1].append(name)
            sizes[-1] += size
        else:
            parts.append([name])
            sizes.append(size)
    if len(parts) > 1 and sizes[-1] < least:
        last = parts.pop()
        parts[-1] += last
    return parts


def _merged_name(part: Sequence[str]) -> str:
    """Name the range of several bins: `1-10` of `1-5` and `6-10`, `21+` of `21-25` and `26+`."""
    first, last = _RANGE.fullmatch(part[0]), _RANGE.fullmatch(part[-1])
    if len(part) == 1:
        return part[0]
    if first is None or last is None:
        return f"{part[0]} to {part[-1]}"
    return f"{first[1]}+" if last[3] else f"{first[1]}-{last[2] or last[1]}"


def _with_merged_bins(run: Run, place: str, parts: Sequence[Sequence[str]]) -> Run:
    """Return a copy of `run` whose record has merged bins at `place`; the run itself where it has no bins."""
    if run.record is None or not isinstance(found := lookup(run.record, place), Mapping):
        return run
    merged: dict[str, Any] = {}
    for part in parts:
        held = [found[name] for name in part if isinstance(found.get(name), Mapping)]
        if held:
            merged[_merged_name(part)] = held[0] if len(part) == 1 else _mean(held)
    root, *inner = place.split(".")
    return replace(run, record=replace(run.record, **{root: _replaced(getattr(run.record, root), inner, merged)}))


def _mean(held: Sequence[Bins]) -> dict[str, Any]:
    """Average the numbers of several bins, weighted by their sentences; a number that one bin lacks is left out."""
    weights: list[Any] = [count for one in held if is_number(count := one.get(COUNT))]
    total = sum(weights)
    if len(weights) < len(held) or total <= 0:
        return {}
    mean = {
        key: sum(weight * one[key] for weight, one in zip(weights, held, strict=True)) / total
        for key in held[0]
        if all(is_number(one.get(key)) for one in held)
    }
    return mean | {COUNT: total}


def _replaced(content: Mapping[str, Any], path: Sequence[str], value: Any) -> Any:
    """Return a copy of nested `content` with `value` at `path`."""
    if not path:
        return value
    return {**content, path[0]: _replaced(content[path[0]], path[1:], value)}


def _stem(name: str) -> str:
    """Return what `encoder 1` and `encoder 12` have in common."""
    return re.sub(r"\d+", "", name) if name[:1].isalpha() else ""


def _numbers(name: str) -> tuple[list[int], str]:
    """Return a key that sorts `6-10` before `11-15` and both before `31+`."""
    return [int(digits) for digits in re.findall(r"\d+", name)], name
