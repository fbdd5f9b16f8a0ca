"""Loads sentence pairs: published sets, the user's own files, or the synthetic language."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attnbench.config.data import (
    FilesConfig,
    LanguagePairConfig,
    Multi30kConfig,
    ParallelTextConfig,
    SyntheticTranslationConfig,
    TatoebaConfig,
    TextVariant,
    Wmt14Config,
)
from attnbench.config.tracking import PathsConfig
from attnbench.data import downloads, synthetic_language, tatoeba
from attnbench.data.pairs import DETOKENIZED, TOKENIZED, ParallelText, Preprocessing, Split
from attnbench.data.text_files import TextFile, check_same_length, read_text_file, split_columns

_SPLITS = ("train", "val", "test")


def load_parallel_text(config: ParallelTextConfig, paths: PathsConfig) -> ParallelText:
    """Load the set of sentence pairs that a config names.

    Args:
        config: data config.
        paths: folders of data and caches.

    Raises:
        DataError: if the set is missing and cannot be downloaded, or has unexpected content.
    """
    return _LOADERS[type(config)](config, paths)


def _build_split(name: str, source: TextFile, target: TextFile, references: dict[str, list[str]]) -> Split:
    check_same_length(source, target)
    prepare = Preprocessing.spaces
    return Split(
        name,
        source=[prepare(line) for line in source.lines],
        target=[prepare(line) for line in target.lines],
        references=references,
        files=(str(source.path), str(target.path)),
        lines=range(1, len(source.lines) + 1),
    )


def _load_multi30k(config: Multi30kConfig, paths: PathsConfig) -> ParallelText:
    forms = {TOKENIZED: ".lc.norm.tok", DETOKENIZED: ""}
    if config.variant is TextVariant.raw:
        del forms[TOKENIZED]
    stems = ("train", "val", config.test_set, *config.extra_test_sets)
    return _load_published("multi30k", stems, forms, config, paths)


def _load_wmt14(config: Wmt14Config, paths: PathsConfig) -> ParallelText:
    return _load_published("wmt14", ("train", "newstest2013", "newstest2014"), {TOKENIZED: ""}, config, paths)


def _load_published(
    folder: str, stems: tuple[str, ...], variants: dict[str, str], config: LanguagePairConfig, paths: PathsConfig
) -> ParallelText:
    """Load files named <stem><infix>.<language>; the model reads and writes the first of `variants` (name: infix).

    The first three `stems` are train, val and test; splits of further stems have their names.
    """
    used = next(iter(variants.values()))
    source, target = config.source.name, config.target.name
    names = [f"{stem}{used}.{source}" for stem in stems]
    names += [f"{stem}{infix}.{target}" for stem in stems for infix in variants.values()]
    found = downloads.locate_files(folder, names, Path(paths.data))
    files = {name: read_text_file(path) for name, path in found.items()}

    def split(name: str, stem: str) -> Split:
        given = files[f"{stem}{used}.{source}"]
        targets = {form: files[f"{stem}{infix}.{target}"] for form, infix in variants.items()}
        for file in targets.values():
            check_same_length(given, file)
        references = {form: file.lines for form, file in targets.items()}
        return _build_split(name, given, next(iter(targets.values())), references)

    train, val, test, *more = map(split, (*_SPLITS, *stems[3:]), stems)
    digests = {name: file.sha256 for name, file in files.items()}
    return ParallelText(
        train,
        val,
        test,
        vocabulary_splits=(train,),
        is_tokenized=TOKENIZED in variants,
        source_language=config.source,
        target_language=config.target,
        checksums={f"{folder}/{name}": digest for name, digest in digests.items()},
        notes=downloads.describe_differences(folder, digests),
        extra_tests=tuple(more),
    )


def _load_files(config: FilesConfig, paths: PathsConfig) -> ParallelText:
    checksums: dict[str, str] = {}

    def split(name: str, first: str, second: str | None) -> Split:
        source = read_text_file(Path(first))
        checksums[first] = source.sha256
        if second is None:
            rows = list(split_columns(source, is_exact=True))
            source, target = (TextFile(source.path, [row[i] for row in rows], source.sha256) for i in (0, 1))
        else:
            target = read_text_file(Path(second))
            checksums[second] = target.sha256
        return _build_split(name, source, target, {DETOKENIZED: target.lines})

    train = split("train", config.train_source, config.train_target)
    val = split("val", config.val_source, config.val_target)
    if config.test_source is None:
        test, notes = split("test", config.val_source, config.val_target), ["test: the validation pairs"]
    else:
        test, notes = split("test", config.test_source, config.test_target), []
    return ParallelText(
        train, val, test, vocabulary_splits=(train,), is_tokenized=False, checksums=checksums, notes=notes
    )


def _load_synthetic(config: SyntheticTranslationConfig, paths: PathsConfig) -> ParallelText:
    origin = f"synthetic language {config.grammar_seed}"
    pairs, digest = synthetic_language.generate_pairs(config), hashlib.sha256()

    def split(name: str) -> Split:
        for pair in pairs[name]:
            digest.update(f"{pair.source}\t{pair.target}\n".encode())
        target = [pair.target for pair in pairs[name]]
        return Split(
            name,
            source=[pair.source for pair in pairs[name]],
            target=target,
            references={DETOKENIZED: target},
            files=(origin, origin),
            lines=range(1, len(target) + 1),
            alignment=[pair.alignment for pair in pairs[name]],
        )

    train, val, test = map(split, _SPLITS)
    checksums = {"synthetic": digest.hexdigest()}
    return ParallelText(train, val, test, vocabulary_splits=(train,), is_tokenized=False, checksums=checksums)


_LOADERS: dict[type, Callable[[Any, PathsConfig], ParallelText]] = {
    Multi30kConfig: _load_multi30k,
    Wmt14Config: _load_wmt14,
    TatoebaConfig: tatoeba.load_tatoeba,
    FilesConfig: _load_files,
    SyntheticTranslationConfig: _load_synthetic,
}
