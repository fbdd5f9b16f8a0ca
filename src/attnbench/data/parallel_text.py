"""Load sentence pairs: published sets, the user's own files, or the synthetic language."""

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
    TextForm,
    Wmt14Config,
)
from attnbench.config.tracking import PathsConfig
from attnbench.data import downloads, synthetic_language, tatoeba
from attnbench.data.pairs import DETOKENISED, TOKENISED, ParallelText, Preparation, Split
from attnbench.data.text_files import TextFile, columns, read, same_length

_SPLITS = ("train", "val", "test")


def load(config: ParallelTextConfig, paths: PathsConfig) -> ParallelText:
    """Read the set of sentence pairs that a config names.

    Raises:
        DataError: a set that is not there and cannot be fetched, or is not what it should be.
    """
    return _LOADERS[type(config)](config, paths)


def _split(name: str, source: TextFile, target: TextFile, references: dict[str, list[str]]) -> Split:
    same_length(source, target)
    prepare = Preparation.spaces
    return Split(
        name,
        source=[prepare(line) for line in source.lines],
        target=[prepare(line) for line in target.lines],
        references=references,
        files=(str(source.path), str(target.path)),
        lines=range(1, len(source.lines) + 1),
    )


def _multi30k(config: Multi30kConfig, paths: PathsConfig) -> ParallelText:
    forms = {TOKENISED: ".lc.norm.tok", DETOKENISED: ""}
    if config.form is TextForm.raw:
        del forms[TOKENISED]
    stems = ("train", "val", config.test_set, *config.more_test_sets)
    return _published("multi30k", stems, forms, config, paths)


def _wmt14(config: Wmt14Config, paths: PathsConfig) -> ParallelText:
    return _published("wmt14", ("train", "newstest2013", "newstest2014"), {TOKENISED: ""}, config, paths)


def _published(
    folder: str, stems: tuple[str, ...], forms: dict[str, str], config: LanguagePairConfig, paths: PathsConfig
) -> ParallelText:
    """Files named <stem><infix>.<language>; the model reads and writes the first of `forms` (name: infix).

    The first three `stems` are train, val and test; splits of further ones have their names.
    """
    used = next(iter(forms.values()))
    source, target = config.source.name, config.target.name
    names = [f"{stem}{used}.{source}" for stem in stems]
    names += [f"{stem}{infix}.{target}" for stem in stems for infix in forms.values()]
    found = downloads.locate(folder, names, Path(paths.data))
    files = {name: read(path) for name, path in found.items()}

    def split(name: str, stem: str) -> Split:
        given = files[f"{stem}{used}.{source}"]
        targets = {form: files[f"{stem}{infix}.{target}"] for form, infix in forms.items()}
        for file in targets.values():
            same_length(given, file)
        references = {form: file.lines for form, file in targets.items()}
        return _split(name, given, next(iter(targets.values())), references)

    train, val, test, *more = map(split, (*_SPLITS, *stems[3:]), stems)
    digests = {name: file.sha256 for name, file in files.items()}
    return ParallelText(
        train,
        val,
        test,
        vocabulary_from=(train,),
        tokenised=TOKENISED in forms,
        source_language=config.source,
        target_language=config.target,
        checksums={f"{folder}/{name}": digest for name, digest in digests.items()},
        notes=downloads.differences(folder, digests),
        more_tests=tuple(more),
    )


def _files(config: FilesConfig, paths: PathsConfig) -> ParallelText:
    checksums: dict[str, str] = {}

    def split(name: str, first: str, second: str | None) -> Split:
        source = read(Path(first))
        checksums[first] = source.sha256
        if second is None:
            rows = list(columns(source, exactly=True))
            source, target = (TextFile(source.path, [row[i] for row in rows], source.sha256) for i in (0, 1))
        else:
            target = read(Path(second))
            checksums[second] = target.sha256
        return _split(name, source, target, {DETOKENISED: target.lines})

    train = split("train", config.train_source, config.train_target)
    val = split("val", config.val_source, config.val_target)
    if config.test_source is None:
        test, notes = split("test", config.val_source, config.val_target), ["test: the validation pairs"]
    else:
        test, notes = split("test", config.test_source, config.test_target), []
    return ParallelText(train, val, test, vocabulary_from=(train,), tokenised=False, checksums=checksums, notes=notes)


def _synthetic(config: SyntheticTranslationConfig, paths: PathsConfig) -> ParallelText:
    origin = f"synthetic language {config.grammar_seed}"
    pairs, digest = synthetic_language.generate(config), hashlib.sha256()

    def split(name: str) -> Split:
        for pair in pairs[name]:
            digest.update(f"{pair.source}\t{pair.target}\n".encode())
        target = [pair.target for pair in pairs[name]]
        return Split(
            name,
            source=[pair.source for pair in pairs[name]],
            target=target,
            references={DETOKENISED: target},
            files=(origin, origin),
            lines=range(1, len(target) + 1),
            alignment=[pair.alignment for pair in pairs[name]],
        )

    train, val, test = map(split, _SPLITS)
    checksums = {"synthetic": digest.hexdigest()}
    return ParallelText(train, val, test, vocabulary_from=(train,), tokenised=False, checksums=checksums)


_LOADERS: dict[type, Callable[[Any, PathsConfig], ParallelText]] = {
    Multi30kConfig: _multi30k,
    Wmt14Config: _wmt14,
    TatoebaConfig: tatoeba.load,
    FilesConfig: _files,
    SyntheticTranslationConfig: _synthetic,
}
