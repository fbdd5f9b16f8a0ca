"""Check that imports run one way, as ARCHITECTURE.md says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "attnbench"
FLOORS = {
    "config": 1, "conf": 1, "metrics": 1, "interrupts": 1,
    "nn": 2, "data": 2, "identity": 2, "record": 2, "pictures": 2, "history": 2, "console": 2,
    "early": 3, "models": 3, "callbacks": 3, "sweep": 3, "report": 3, "tracking": 3,
    "tasks": 4,
    "benchmark": 5,
    "train": 6, "translate": 6, "table": 6, "bench": 6, "sync": 6,
    "import_wandb": 6,
}  # fmt: skip
STRANGERS = [("nn", "metrics"), ("data", "metrics")]  # below, and still none of their business
TORCH_FREE = [
    "config", "record", "identity", "sweep.plan", "history", "report.tables", "report.__main__", "tracking",
    "table", "train", "bench", "sync", "import_wandb",
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


def room(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arrows_run_down(path: Path) -> None:
    here = name_of(path)
    if here == "__init__":
        return
    for there in imports_of(path):
        if room(there) != room(here):
            assert FLOORS[room(there)] < FLOORS[room(here)], f"{here} imports {there}, which is not below it"
            assert (room(here), room(there)) not in STRANGERS, f"{here} imports {there}"


def test_callbacks_read_what_a_model_returns() -> None:
    for path in (SRC / "callbacks").glob("*.py"):
        assert not {room(name) for name in imports_of(path)} & {"tasks", "models"}, path.name


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
