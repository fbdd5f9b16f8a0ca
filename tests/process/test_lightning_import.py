"""Check what importing the library, and Lightning by the commands, changes in a process."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_library_changes_nothing_in_the_process() -> None:
    code = "import attnbench.tasks, attnbench.training.runner, gc; print(gc.get_freeze_count(), gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 True\n", "")


def test_the_fast_import_of_lightning_leaves_python_as_it_was() -> None:
    code = (
        "import gc, sys\n"
        "import attnbench.process.lightning_import\n"
        "import attnbench.training.runner\n"
        "from lightning_utilities.core.imports import RequirementCache, package_available\n"
        "assert gc.isenabled()\n"
        "assert 'scipy' not in sys.modules, 'torchmetrics loads it again'\n"
        "assert package_available('scipy') and RequirementCache('scipy')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # C bindings report leaks at exit
