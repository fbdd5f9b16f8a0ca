"""Tatoeba English-French: the preprocessing and split of d2l.ai, chapter 10.5, or the full set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnbench.config.data import Language, TatoebaConfig
from attnbench.config.tracking import PathsConfig
from attnbench.data import downloads
from attnbench.data.errors import DataError
from attnbench.data.pairs import DETOKENIZED, TOKENIZED, ParallelText, Preprocessing, Split
from attnbench.data.text_files import read_text_file, split_columns


def load_tatoeba(config: TatoebaConfig, paths: PathsConfig) -> ParallelText:
    """Load fra.txt: English, tab, French, and in newer exports a column with the source.

    With `train_pairs`: the first pairs for training, the next `val_pairs` for validation, and these again for the
    test, as in the book. Without: `val_pairs` each for validation and test, drawn so that no sentence of either
    language is in two splits, the same for every seed of the run; the other pairs are for training.

    Args:
        config: options of the data set.
        paths: folders of data and cache.

    Raises:
        DataError: if the file is missing or has too few pairs.
    """
    file = read_text_file(downloads.locate_files("fra-eng", ["fra.txt"], Path(paths.data))["fra.txt"])
    pairs = list(split_columns(file, is_exact=False))
    if config.source is Language.fr:
        pairs = [(french, english) for english, french in pairs]
    whole = config.train_pairs is None
    needed = (config.train_pairs or config.val_pairs + 1) + config.val_pairs
    if len(pairs) < needed:
        raise DataError(f"{file.path}:{len(pairs)}: the last pair; expected at least {needed:,} pairs")

    def split(name: str, rows: Sequence[int]) -> Split:
        return _build_split(name, rows, pairs, str(file.path))

    if config.train_pairs is None:
        train, val, test = map(split, ("train", "val", "test"), _draw_split_rows(pairs, config.val_pairs))
    else:
        train = split("train", range(config.train_pairs))
        val, test = (split(name, range(config.train_pairs, needed)) for name in ("val", "test"))
    return ParallelText(
        train,
        val,
        test,
        vocabulary_splits=(train,) if whole else (train, val),  # the book counts words in all that it reads
        is_tokenized=True,
        preprocessing=Preprocessing.d2l,
        source_language=config.source,
        target_language=config.target,
        checksums={"fra-eng/fra.txt": file.sha256},
        notes=[] if whole else ["test: the validation pairs", "vocabulary: of training and validation pairs"],
    )


def _build_split(name: str, rows: Sequence[int], pairs: Sequence[tuple[str, str]], path: str) -> Split:
    source, target = ([Preprocessing.d2l(pairs[row][side]) for row in rows] for side in (0, 1))
    return Split(
        name,
        source=source,
        target=target,
        references={TOKENIZED: target, DETOKENIZED: [pairs[row][1] for row in rows]},
        files=(path, path),
        lines=[row + 1 for row in rows],
    )


def _draw_split_rows(pairs: Sequence[tuple[str, str]], size: int) -> tuple[list[int], list[int], list[int]]:
    """Draw the rows for training, validation and test; the last two have at most `size` each.

    Pairs that share a sentence on either side stay together, and so do pairs that are linked through others: no
    sentence of a test, source or reference, is in the training set. Both directions get the same rows.
    """
    groups = _group_connected_rows([(Preprocessing.d2l(source), Preprocessing.d2l(target)) for source, target in pairs])
    random.Random(0).shuffle(groups)
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for rows in groups:
        next((part for part in parts[1:] if len(part) + len(rows) <= size), parts[0]).extend(rows)
    return parts


def _group_connected_rows(pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Group the rows of pairs that share a sentence: the connected components of a bipartite graph."""
    from scipy.sparse import coo_array  # type: ignore[import-untyped]  # here: other runs start without scipy
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    numbers: tuple[dict[str, int], dict[str, int]] = ({}, {})  # of each side's sentences
    edges_2N = np.array(
        [[known.setdefault(pair[side], len(known)) for pair in pairs] for side, known in enumerate(numbers)]
    )
    edges_2N[1] += len(numbers[0])
    nodes = sum(map(len, numbers))
    graph = coo_array((np.ones(len(pairs), dtype=np.int8), tuple(edges_2N)), shape=(nodes, nodes))
    _, component_of_node = connected_components(graph, directed=False)
    groups: dict[int, list[int]] = {}  # in the order of their first rows, so that nothing depends on scipy's numbers
    for row, component in enumerate(component_of_node[edges_2N[0]].tolist()):
        groups.setdefault(component, []).append(row)
    return list(groups.values())
