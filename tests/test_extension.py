"""Test that an entry of a registry is one class or line, and one name: examples pass the tests of all entries.

The scoring function is the example of the README, exactly as written.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ["tests/nn", "tests/models", "tests/tasks/test_flops.py"]


class Addition(NamedTuple):
    """What a contributor writes for a new entry of a registry."""

    file: str  # of the class
    code: str
    enum_file: str
    last_name: str  # line of the enumeration after which the new name is written
    name: str
    override: str  # that selects the entry
    min_tests: int  # number of tests that must have run for the entry


def read_example() -> str:
    example = re.search(r"```python\n(class Manhattan.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert example is not None
    return example[1]


ADDITIONS = {
    "score": Addition(
        "nn/scoring.py", read_example(), "config/attention.py", "uniform", "manhattan", "attention.score", 50
    ),
    "normalizer": Addition(
        "nn/normalizers.py",
        '''
class BinarySoftmax(AttentionNormalizer, name=Normalizer.binary):
    """Softmax to the base 2: 2^s / sum(2^s)."""

    def forward(self, scores_BHQK: Tensor) -> Tensor:
        """Compute weights_BHQK."""
        return (0.6931471805599453 * to_at_least_float32(scores_BHQK)).softmax(-1)
''',
        "config/attention.py", "reinforce", "binary", "attention.normalizer", 10,
    ),
    "norm": Addition(
        "nn/norms.py",
        '''
class DynamicTanh(nn.Module):
    """Dynamic tanh: g tanh(a x) + b, with learned a, g and b (Zhu et al. 2025, equation 1)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.5))
        self.weight, self.bias = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model))

    def forward(self, x_D: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Compute y_D."""
        return self.weight * torch.tanh(self.slope * to_at_least_float32(x_D)) + self.bias


NORMS[NormType.dynamic_tanh] = DynamicTanh
''',
        "config/model.py", "scale", "dynamic_tanh", "model.norm_type", 5,
    ),
    "activation": Addition(
        "nn/blocks.py", "ACTIVATIONS[Activation.silu] = Nonlinearity(F.silu, is_gated=False)\n",
        "config/model.py", "swiglu", "silu", "model.activation", 1,
    ),
    "position": Addition(
        "nn/positions.py",
        '''
class Cosines(PositionalEncoding, kind=Position.cosines):
    """Cosines of the position with frequencies k / (2 max_len), k = 0, 1, ..., as in a discrete cosine transform."""

    def forward(self, x_BLD: Tensor, offset: int = 0) -> Tensor:
        """Compute y_BLD."""
        places_L = torch.arange(offset, offset + x_BLD.shape[1], device=x_BLD.device) + 0.5
        frequencies_D = torch.arange(self.d_model, device=x_BLD.device) / (2 * self.max_len)
        return x_BLD + torch.cos(2 * torch.pi * places_L.outer(frequencies_D))
''',
        "config/position.py", "alibi", "cosines", "position", 5,
    ),
}  # fmt: skip


@pytest.fixture(params=ADDITIONS, scope="module")
def extended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Addition, Path]:
    """Return an addition, and a copy of the source with its class and name in place."""
    addition, folder = ADDITIONS[request.param], tmp_path_factory.mktemp("extended")
    source = Path(shutil.copytree(ROOT / "src", folder / "src"))
    (folder / "conf").symlink_to(ROOT / "conf")
    module, config = source / "attnbench" / addition.file, source / "attnbench" / addition.enum_file
    module.write_text(f"{module.read_text()}\n\n{addition.code}")
    before = f'    {addition.last_name} = "{addition.last_name}"\n'
    text = config.read_text()
    assert text.count(before) == 1
    config.write_text(text.replace(before, f'{before}    {addition.name} = "{addition.name}"\n'))
    return addition, source


def run(source: Path, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=170
    )


def test_all_tests_of_the_registry_pass(extended: tuple[Addition, Path]) -> None:
    addition, source = extended
    options = ["-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", addition.name]
    found = run(source, "-m", "pytest", *options, *TESTS)
    assert found.returncode == 0, found.stdout[-2000:]
    passed = re.search(r"(\d+) passed", found.stdout)
    assert passed is not None, found.stdout[-500:]
    assert int(passed[1]) >= addition.min_tests


def test_config_and_sweep_know_the_entry(extended: tuple[Addition, Path], tmp_path: Path) -> None:
    addition, source = extended
    script = """
import sys
from attnbench.sweeps.compose import Composer
from attnbench.sweeps.plan import build_plan
key, name = sys.argv[1:]
others = [word.strip().partition("=")[2] for word in Composer().complete_override([], f"{key}=")]
plan = build_plan([f"{key}={','.join(others)}", "sweep.name=x"], is_multirun=True)
print(name in others, len(plan.runs) == len(others))
"""
    found = run(source, "-c", script, addition.override, addition.name, folder=tmp_path)
    assert found.stdout.split() == ["True", "True"], found.stderr


@pytest.mark.parametrize("extended", ["score"], indirect=True)
def test_the_benchmark_and_the_group_have_the_score(extended: tuple[Addition, Path], tmp_path: Path) -> None:
    script = (
        "from attnbench.sweeps.plan import build_plan\n"
        "from attnbench.benchmarks.attention import list_cases\n"
        "plan = build_plan(['attention=manhattan,dot', 'sweep.name=x'], is_multirun=True)\n"
        "print(len(plan.runs), [case.config.score.name for case in list_cases()].count('manhattan'))\n"
    )
    found = run(extended[1], "-c", script, folder=tmp_path)
    assert found.stdout.split() == ["2", "1"], found.stderr
