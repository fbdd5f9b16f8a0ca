"""Combinations of a grid: the product of all swept values, with groups of keys that change together (`sweep.zip`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hydra.core.override_parser.types import Override

from attnbench.config import Fault


def list_grid(overrides: Sequence[Override], zipped: Sequence[Sequence[str]] = ()) -> list[list[str]]:
    """List the overrides of all combinations, in the order of the overrides; the last key changes fastest.

    Args:
        overrides: overrides of the command, without Hydra's own; of two overrides of a key, the later one counts.
        zipped: groups of keys whose values are taken together: the first of each, the second of each, ...
    """
    values = {override.get_key_element(): _list_lines(override) for override in overrides}
    axes: dict[str, list[tuple[str, ...]]] = {}
    for key, lines in values.items():
        group = next((group for group in zipped if key in group), [key])
        members = [name for name in values if name in group]
        if members[0] == key:
            axes[key] = list(zip(*(values[name] for name in members), strict=True))
        elif not lines:
            axes[key] = []
    return [list(itertools.chain(*chosen)) for chosen in itertools.product(*axes.values())]


def _list_lines(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [f"{key}={override.get_value_element_as_str()}"]


def find_zip_faults(overrides: Sequence[Override], zipped: Sequence[Sequence[str]]) -> Iterator[Fault]:
    """Yield the faults of `sweep.zip`: keys that are not swept, or that have different numbers of values.

    Args:
        overrides: overrides of the command.
        zipped: groups of keys.
    """
    counts = {
        override.get_key_element(): len(list(override.sweep_string_iterator()))
        for override in overrides
        if override.is_sweep_override()
    }
    seen: set[str] = set()
    for group in zipped:
        given = f"[{','.join(group)}]"
        unknown = [key for key in group if key not in counts]
        if unknown:
            yield Fault("sweep.zip", given, f"expected keys that are swept, and {', '.join(unknown)} is not")
        elif len({counts[key] for key in group}) > 1:
            numbers = ", ".join(f"{key} has {counts[key]}" for key in group)
            yield Fault("sweep.zip", given, f"expected the same number of values for each key: {numbers}")
        if seen & set(group):
            yield Fault("sweep.zip", given, f"expected each key in one group: {', '.join(sorted(seen & set(group)))}")
        seen |= set(group)
