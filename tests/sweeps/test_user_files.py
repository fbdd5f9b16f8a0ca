"""Faults in a user's own config files are named with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnbench.config import ConfigError
from attnbench.sweeps.plan import build_plan

HEAD = "# @package _global_\n"


def write(folder: Path, group: str, text: str) -> Path:
    file = folder / group / "mine.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    return file


@pytest.mark.parametrize(
    ("group", "text", "expected"),
    [
        ("experiment", f"{HEAD}optim:\n\tlr: 1e-3\n", ":3: a tab before 'lr: 1e-3': YAML is indented by spaces"),
        ("experiment", f"{HEAD}optim:\n  lr: 1\n  lr: 2\n", ":4: optim.lr stands here and in line 3"),
        ("experiment", f"{HEAD}seed: 1\nname: a\nseed: 2\n", ":4: seed stands here and in line 2"),
        ("experiment", f"{HEAD}optim:\n  lr: 0,003\n", ":3: optim.lr: expected a number, not '0,003'"),
        ("experiment", f"{HEAD}trainer:\n  patience: off\n", ":3: trainer.patience: expected a whole number or null"),
        ("experiment", f"{HEAD}optim:\n  rate: 3\n", ":3: optim.rate: no such key"),
        ("sweep", f"{HEAD}sweep:\n  tune:\n    param: {{optim.lr: [1]}}\n", ":4: sweep.tune.param"),
        ("experiment", "optim:\n  lr: 1e-3\n", ":1: its keys are taken for keys of experiment: `# @package _global_`"),
        ("experiment", f"# mine\n{HEAD}seed: 1\n", ":1: its keys are taken for keys of experiment: `# @package _gl"),
        ("sweep", "hydra:\n  sweeper: {}\n", ":1: its keys are taken for keys of sweep: `# @package _global_`"),
        ("experiment", f"\ufeff{HEAD}seed: 1\n", ":1: starts with a byte order mark"),
        ("experiment", f"{HEAD}name: no\n", ":2: name: no is read as a number or a boolean: put text in quotes"),
        ("experiment", f"{HEAD}sweep:\n  name: 2024_01_01\n", ":3: sweep.name: 2024_01_01 is read as a number"),
        ("experiment", f"{HEAD}logger:\n  tags:\n  - yes\n", ":4: logger.tags: yes is read as a number or a boolean"),
        ("experiment", f"{HEAD}- a\n", ":2: expected keys with values"),
        ("experiment", f"{HEAD}name: '\udcff'\n", ": byte 27 is not UTF-8"),
        ("experiment", f"{HEAD}name: a: b\n", ":2: mapping values are not allowed here"),
        ("model", "defaults: [toy, _self_]\ndepth: many\n", ":2: model.depth: expected a whole number, not 'many'"),
        ("model", "defaults: [toy, _self_]\ndeep: 3\n", ":2: model.deep: no such key"),
        ("model", "depth: [3\n", ":2: expected ',' or ']', but got '<stream end>'"),
    ],
)  # fmt: skip
def test_file_line_and_key_are_named(group: str, text: str, expected: str, tmp_path: Path) -> None:
    file = write(tmp_path, group, text)
    with pytest.raises(ConfigError) as caught:
        build_plan([f"{group}=mine"], is_multirun=False, config_dir=str(tmp_path))
    (fault,) = caught.value.faults
    assert str(fault).startswith(f"{group}=mine: {file}{expected}") or f"{file}{expected}" in fault.expected


@pytest.mark.parametrize(
    ("group", "text"),
    [
        ("experiment", f"{HEAD}seed: '1'\nname: 'no'\noptim:\n  lr: 3e-3\n"),
        ("experiment", f"\n{HEAD}# what it is for\n\ndefaults:\n  - override /model: tiny\n\nmodel:\n  depth: 2\n"),
        ("experiment", f"{HEAD}sweep:\n  name: 12\nhydra:\n  verbose: false\n"),
        ("experiment", f"{HEAD}sweep:\n  tune:\n    params: {{optim.lr: [1e-3, 2e-3]}}\n  seeds: null\n"),
        ("model", "defaults: [toy, _self_]\ndepth: 3\n"),
        ("optim", "name: adamw\nlr: 1e-3\n"),
        ("experiment", HEAD),
    ],
)
def test_nothing_is_found_in_a_file_that_is_right(group: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, group, text)
    assert build_plan([f"{group}=mine"], is_multirun=False, config_dir=str(tmp_path)).runs


def test_the_files_of_the_package_are_right(tmp_path: Path) -> None:
    from attnbench.config.folder import CONFIG_FOLDER
    from attnbench.sweeps.user_files import find_fault

    files = list(CONFIG_FOLDER.glob("*/*.yaml"))
    assert len(files) > 80
    assert [fault for file in files if (fault := find_fault(file, file.parent.name)) is not None] == []
