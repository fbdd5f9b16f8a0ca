"""Measure rows in turns, so that a slow phase of the machine affects all rows alike."""

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

Measurements = dict[str, float]


class NotInstalledError(Exception):
    """Raised if the peer of a row is not installed; the message says how to install it."""


class BenchmarkCase(NamedTuple):
    """Row to measure."""

    group: str
    name: str
    baseline: str
    measure_repeat: Callable[[], Measurements]  # one repeat
    measure_once: Callable[[], Measurements] = dict  # called once, after the repeats
    texts: Mapping[str, str] = MappingProxyType({})  # text by column, known without measuring


class SuitePlan(NamedTuple):
    """Suite that is ready to be measured."""

    group_name: str
    notes: list[str]
    cases: list[BenchmarkCase]
    warmup: int  # repeats that do not count


def measure_suite(plan: SuitePlan, repeats: int, print_progress: Callable[[str], None]) -> list[Row]:
    """Measure a suite: the cases of a group take turns (A B C A B C).

    Args:
        plan: the suite.
        repeats: number of measured repeats.
        print_progress: prints a line of progress.

    Returns:
        A row for each case.
    """
    rows: list[Row] = []
    for group, members in itertools.groupby(plan.cases, operator.attrgetter("group")):
        subjects = list(members)
        print_progress(f"{f'{plan.group_name} {group}: ' if group else ''}{len(subjects)} rows, {repeats} repeats")
        rows += _measure_in_turns(subjects, repeats, plan.warmup)
    return rows


def summarize_samples(key: str, samples: Sequence[float]) -> Measurements:
    """Compute median and quartiles.

    Args:
        key: name of the number.
        samples: values of all repeats.
    """
    lower, _, upper = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else [samples[0]] * 3
    return {key + MEDIAN: median(samples), key + LOWER: lower, key + UPPER: upper}


def _measure_in_turns(subjects: Sequence[BenchmarkCase], repeats: int, warmup: int) -> list[Row]:
    rows = [Row(subject.group, subject.name, subject.baseline, texts=dict(subject.texts)) for subject in subjects]
    samples: list[dict[str, list[float]]] = [defaultdict(list) for _ in subjects]
    for turn in range(warmup + repeats):
        for subject, row, found in zip(subjects, rows, samples, strict=True):
            numbers = _run_safely(subject.measure_repeat, row)
            for key, number in numbers.items() if turn >= warmup else ():
                found[key].append(number)
    for subject, row, found in zip(subjects, rows, samples, strict=True):
        once = _run_safely(subject.measure_once, row)
        if row.error is None:
            for key, numbers_of_key in found.items():
                row.values |= summarize_samples(key, numbers_of_key)
            row.values |= once
    return rows


def _run_safely(run: Callable[[], Measurements], row: Row) -> Measurements:
    """Run a measurement; if it or an earlier one failed, the row gets the error and the result is empty."""
    if row.error is not None:
        return {}
    try:
        return run()
    except NotInstalledError as error:
        row.error = f"{NOT_INSTALLED}: {error}"
        return {}
    except Exception as error:
        message = next(iter(str(error).splitlines()), "")
        row.error = f"{type(error).__name__}: {message}" if message else type(error).__name__
        return {}
