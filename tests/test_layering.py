"""Check that imports run one way, as ARCHITECTURE.md says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "attnbench"
LAYERS = {
    "config": 1, "metrics": 1, "process": 1, "visualization": 1,
    "records": 2,
    "nn": 3, "data": 3,
    "models": 4, "tracking": 4,
    "tasks": 5,
    "training": 6,
    "sweeps": 7, "reporting": 7,
    "benchmarks": 8,
    "train": 9, "translate": 9, "table": 9, "bench": 9, "sync": 9, "import_wandb": 9,
    "report": 9, "status": 9, "wandb_sweep": 9, "completion": 9, "verify": 9, "plan": 9, "reproduce": 9,
    "__main__": 10,
}  # fmt: skip
INDEPENDENT = [("nn", "metrics"), ("data", "metrics")]  # lower, and still not to be imported
TORCH_FREE = [
    "config", "records.record", "records.identity", "records.history", "records.lifecycle", "records.ranks",
    "sweeps.plan", "reporting.tables",
    "tracking", "table", "train", "bench", "sync", "import_wandb", "report", "status", "wandb_sweep",
    "completion", "verify", "plan", "reproduce",
    "__main__",
]  # fmt: skip
MODULES = sorted(SRC.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__") or "__init__"


def imports_of(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere, in functions too, but not for type checking alone."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name.removeprefix("attnbench.") for name in found if name.startswith("attnbench.")}


def package_of(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_run_down(path: Path) -> None:
    here = name_of(path)
    if here == "__init__":
        return
    for there in imports_of(path):
        if package_of(there) != package_of(here):
            assert LAYERS[package_of(there)] < LAYERS[package_of(here)], f"{here} imports {there}: not a lower layer"
            assert (package_of(here), package_of(there)) not in INDEPENDENT, f"{here} imports {there}"


def test_callbacks_read_what_a_model_returns() -> None:
    for path in (SRC / "training" / "callbacks").glob("*.py"):
        imported = imports_of(path) - {"tasks.results"}
        assert not {package_of(name) for name in imported} & {"tasks", "models"}, path.name


def test_no_import_goes_in_circles() -> None:
    graph = {name_of(path): imports_of(path) for path in MODULES}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for there in graph.get(name, ()):
                visit(there, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("module", TORCH_FREE)
def test_starts_without_torch(module: str) -> None:
    code = f"import attnbench.{module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_first_line_says_what_the_file_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), path
