"""Lightning is imported quickly, and nothing is different afterwards."""

from __future__ import annotations

import subprocess
import sys


def test_importing_leaves_python_as_it_was() -> None:
    code = (
        "import gc, sys\n"
        "import attnbench.tasks.run\n"
        "from lightning_utilities.core.imports import RequirementCache, package_available\n"
        "assert gc.isenabled()\n"
        "assert 'scipy' not in sys.modules, 'torchmetrics loads it again'\n"
        "assert package_available('scipy') and RequirementCache('scipy')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")  # what leaks is told of at the end
