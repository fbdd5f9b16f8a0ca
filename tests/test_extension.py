"""Test that a new scoring function is one class and one name: the README's example passes the tests of all scores."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ["tests/nn/test_scoring.py", "tests/nn/test_attention.py", "tests/models/test_transformer.py",
         "tests/models/test_recurrent.py", "tests/models/test_vit.py"]  # fmt: skip


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """Return a copy of the source with the README's class, and its name, in place."""
    source, _ = shutil.copytree(ROOT / "src", tmp_path / "src"), (tmp_path / "conf").symlink_to(ROOT / "conf")
    example = re.search(r"```python\n(class Manhattan.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example is not None
    scoring, config = source / "attnbench/nn/scoring.py", source / "attnbench/config/attention.py"
    scoring.write_text(f"{scoring.read_text()}\n\n{example[1]}")
    text = config.read_text()
    assert text.count('    uniform = "uniform"\n') == 1
    name = '    manhattan = "manhattan"\n'
    config.write_text(text.replace('    uniform = "uniform"\n', f'    uniform = "uniform"\n{name}'))
    return source


def run(source: Path, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=170
    )


def test_all_tests_of_scores_pass(extended: Path) -> None:
    options = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", "manhattan"]
    found = run(extended, "-m", "pytest", *options, *TESTS)
    assert found.returncode == 0, found.stdout[-2000:]
    passed = re.search(r"(\d+) passed", found.stdout)
    assert passed is not None, found.stdout[-500:]
    assert int(passed[1]) > 50


def test_config_sweep_and_benchmark_know_the_new_score(extended: Path, tmp_path: Path) -> None:
    script = (
        "from attnbench.sweeps.plan import build_plan\n"
        "from attnbench.benchmarks.attention import list_cases\n"
        "plan = build_plan(['attention.score=manhattan,dot', 'sweep.name=x'], is_multirun=True)\n"
        "print(len(plan.runs), [case.config.score.name for case in list_cases()].count('manhattan'))\n"
    )
    found = run(extended, "-c", script, folder=tmp_path)
    assert found.stdout.split() == ["2", "1"], found.stderr
