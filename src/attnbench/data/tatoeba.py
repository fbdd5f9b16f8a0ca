"""Tatoeba English-French as d2l.ai, chapter 10.5, prepares and cuts it; or the whole of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from attnbench.config.data import Language, TatoebaConfig
from attnbench.config.tracking import PathsConfig
from attnbench.data import sources
from attnbench.data.errors import DataError
from attnbench.data.pairs import DETOKENISED, TOKENISED, ParallelText, Preparation, Split
from attnbench.data.text_files import columns, read


def load(config: TatoebaConfig, paths: PathsConfig) -> ParallelText:
    """Read fra.txt: English, tab, French, and in newer exports where they come from.

    With `train_pairs`: the first ones, the next `val_pairs`, and these again for the test, as in the book.
    Without: `val_pairs` each for validation and test, drawn so that no source sentence stands in two
    splits, the same whatever the run's seed; the rest is for training.

    Raises:
        DataError: no such set, or too few pairs.
    """
    file = read(sources.locate("fra-eng", ["fra.txt"], Path(paths.data))["fra.txt"])
    pairs = list(columns(file, exactly=False))
    if config.source is Language.fr:
        pairs = [(french, english) for english, french in pairs]
    whole = config.train_pairs is None
    needed = (config.train_pairs or config.val_pairs + 1) + config.val_pairs
    if len(pairs) < needed:
        raise DataError(f"{file.path}:{len(pairs)}: the last pair; expected at least {needed:,} pairs")

    def split(name: str, rows: Sequence[int]) -> Split:
        return _split(name, rows, pairs, str(file.path))

    if config.train_pairs is None:
        train, val, test = map(split, ("train", "val", "test"), _drawn(pairs, config.val_pairs))
    else:
        train = split("train", range(config.train_pairs))
        val, test = (split(name, range(config.train_pairs, needed)) for name in ("val", "test"))
    return ParallelText(
        train,
        val,
        test,
        vocabulary_from=(train,) if whole else (train, val),  # the book counts words in all that it reads
        tokenised=True,
        preparation=Preparation.d2l,
        source_language=config.source,
        target_language=config.target,
        checksums={"fra-eng/fra.txt": file.sha256},
        notes=[] if whole else ["test: the validation pairs", "vocabulary: of training and validation pairs"],
    )


def _split(name: str, rows: Sequence[int], pairs: Sequence[tuple[str, str]], path: str) -> Split:
    source, target = ([Preparation.d2l(pairs[row][side]) for row in rows] for side in (0, 1))
    return Split(
        name,
        source=source,
        target=target,
        references={TOKENISED: target, DETOKENISED: [pairs[row][1] for row in rows]},
        files=(path, path),
        lines=[row + 1 for row in rows],
    )


def _drawn(pairs: Sequence[tuple[str, str]], size: int) -> tuple[list[int], list[int], list[int]]:
    """Rows for training, validation and test, the last two of at most `size`."""
    groups: dict[str, list[int]] = {}
    for row, (source, _) in enumerate(pairs):
        groups.setdefault(Preparation.d2l(source), []).append(row)
    sentences = list(groups.values())
    random.Random(0).shuffle(sentences)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for rows in sentences:
        next((part for part in parts[1:] if len(part) + len(rows) <= size), parts[0]).extend(rows)
    return parts
