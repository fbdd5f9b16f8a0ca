"""Count the examples of validation and test sets that are in the training set too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Overlap = dict[str, dict[str, int]]  # by split: `examples`, and how many of them training has, by side


def count_overlap(train: Mapping[str, Iterable[object]], split: Mapping[str, Sequence[object]]) -> dict[str, int]:
    """Count the examples of a split that also occur in the training set, for each side.

    Args:
        train: hashable examples of the training set by side (source and target, or picture).
        split: examples of another split, with the same sides.

    Returns:
        `examples`, the size of the split, and for each side the number of its examples that occur in training.
    """
    found = {"examples": len(next(iter(split.values())))}
    for side, examples in split.items():
        wanted = set(examples)  # of the smaller set: training may have millions
        shared = {example for example in train[side] if example in wanted}
        found[side] = sum(example in shared for example in examples)
    return found


def describe_overlap(overlap: Overlap) -> list[str]:
    """Return a sentence for each split that has examples in common with training."""
    sentences = []
    for name, counts in overlap.items():
        shared = [
            f"{count:,} {side}{'s' * (count > 1)}" for side, count in counts.items() if side != "examples" and count
        ]
        if shared:
            found = f"of {counts['examples']:,} examples, {' and '.join(shared)} found in the training set"
            sentences.append(f"{name}: {found}")
    return sentences
