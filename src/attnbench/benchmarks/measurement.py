"""Repeats in turns: what slows the machine down for a while slows every row alike."""

from __future__ import annotations

import itertools
import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from types import MappingProxyType
from typing import NamedTuple

from attnbench.benchmarks.results import NOT_INSTALLED, Row
from attnbench.benchmarks.table import LOWER, MEDIAN, UPPER

Numbers = dict[str, float]


class NotInstalled(Exception):
    """What a row is about is not there; says how to get it."""


class Subject(NamedTuple):
    """What a row is made from."""

    group: str
    name: str
    baseline: str
    sample: Callable[[], Numbers]  # one repeat
    once: Callable[[], Numbers] = dict  # after the repeats: what does not vary
    texts: Mapping[str, str] = MappingProxyType({})  # by column: what is known without measuring


class Plan(NamedTuple):
    """A suite that is ready to be measured."""

    groups: str
    notes: list[str]
    subjects: list[Subject]
    warmup: int  # repeats that do not count


def measure(plan: Plan, repeats: int, tell: Callable[[str], None]) -> list[Row]:
    """A row for each subject; the subjects of a group take turns (A B C A B C). `tell` hears what is going on."""
    rows: list[Row] = []
    for group, members in itertools.groupby(plan.subjects, operator.attrgetter("group")):
        subjects = list(members)
        tell(f"{f'{plan.groups} {group}: ' if group else ''}{len(subjects)} rows, {repeats} repeats")
        rows += _in_turns(subjects, repeats, plan.warmup)
    return rows


def spread(key: str, samples: Sequence[float]) -> Numbers:
    """Median and quartiles."""
    lower, _, upper = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else [samples[0]] * 3
    return {key + MEDIAN: median(samples), key + LOWER: lower, key + UPPER: upper}


def _in_turns(subjects: Sequence[Subject], repeats: int, warmup: int) -> list[Row]:
    rows = [Row(subject.group, subject.name, subject.baseline, texts=dict(subject.texts)) for subject in subjects]
    samples: list[dict[str, list[float]]] = [defaultdict(list) for _ in subjects]
    for turn in range(warmup + repeats):
        for subject, row, found in zip(subjects, rows, samples, strict=True):
            numbers = _try(subject.sample, row)
            for key, number in numbers.items() if turn >= warmup else ():
                found[key].append(number)
    for subject, row, found in zip(subjects, rows, samples, strict=True):
        once = _try(subject.once, row)
        if row.error is None:
            for key, numbers_of_key in found.items():
                row.values |= spread(key, numbers_of_key)
            row.values |= once
    return rows


def _try(run: Callable[[], Numbers], row: Row) -> Numbers:
    """What `run` found; nothing, and why not in the row, where it or something before it failed."""
    if row.error is not None:
        return {}
    try:
        return run()
    except NotInstalled as error:
        row.error = f"{NOT_INSTALLED}: {error}"
        return {}
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")
        row.error = f"{type(error).__name__}: {said}" if said else type(error).__name__
        return {}
