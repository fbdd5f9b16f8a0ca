"""Test README and docs/: links, commands, and the generated reference."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import nbclient
import nbformat
import pytest

from attnbench.process.commands import COMMANDS
from attnbench.sweeps.plan import build_plan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Values in the documents that stand for the reader's own files and modules.
OWN = ("mymodule.", "a.en", "DIR", "photos", "train.en")


def list_commands() -> Iterator[tuple[str, str]]:
    """Yield page and command for each indented line that starts with `attnbench`."""
    for page in PAGES:
        text = re.sub(r"\\\n\s*", " ", page.read_text())
        for line in re.findall(r"^    (attnbench .*)$", text, re.MULTILINE):
            yield page.name, re.split(r"\s{2,}#| # |[<>]", line)[0].strip()


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "generate_config_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_config_reference_is_up_to_date(generator: ModuleType) -> None:
    told = "run python docs/generate_config_reference.py"
    assert (ROOT / "docs" / "config.md").read_text() == generator.format_page(), told


def test_the_config_reference_says_what_keys_mean(generator: ModuleType) -> None:
    rows = [row for row in generator.format_page().splitlines() if row.startswith("| `")]
    assert len({row.split("`")[1] for row in rows}) > 130
    assert "| `trainer.max_steps` | `null` | a whole number or null; at least 1 | updates of the weights |" in rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize(("page", "command"), list(list_commands()), ids=lambda value: value[:60])
def test_commands_are_ones_that_exist(page: str, command: str) -> None:
    _, verb, *arguments = shlex.split(command)
    if verb in ("COMMAND", "--help"):
        return
    assert verb in COMMANDS
    if verb == "sweep":
        arguments = ["-m", f"sweep={arguments[0]}", *arguments[1:]]
    if verb in ("train", "sweep") and "--help" not in arguments and not any(own in command for own in OWN):
        is_multirun = "-m" in arguments
        overrides = [argument for argument in arguments if "=" in argument]
        assert len(overrides) + is_multirun == len(arguments)
        assert build_plan([*overrides, "hydra.verbose=false"], is_multirun=is_multirun).runs


def test_the_notebook_runs(tmp_path: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / "analyze_runs.ipynb", as_version=4)
    committed = [len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:  # fewer pairs and epochs: the same code in a third of the time
        cell.source = cell.source.replace('"trainer.max_epochs=6"', '"trainer.max_epochs=2", "data.train_pairs=600"')
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert committed == [len(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) < 1400
