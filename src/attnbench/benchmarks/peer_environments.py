"""Virtual environments of other toolkits, one each, because their requirements conflict."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from attnbench.config import ConfigError, Fault

_ENVIRONMENTS_FOLDER = Path(".cache", "attnbench", "peers")
_REQUIREMENTS = files("attnbench.benchmarks") / "peers" / "requirements"
_READY_FILE = ".ready"  # written when the installation is complete


def list_environments() -> list[str]:
    """List the environments that have a requirements file."""
    return sorted(item.name.removesuffix(".txt") for item in _REQUIREMENTS.iterdir() if item.name.endswith(".txt"))


def find_python(name: str) -> Path | None:
    """Return the interpreter of an environment; None if it is not installed."""
    folder = _ENVIRONMENTS_FOLDER / name
    return (folder / "bin" / "python").absolute() if (folder / _READY_FILE).is_file() else None


def install_environments(names: Sequence[str]) -> int:
    """Create environments, each with this project's version of torch. A failure does not stop the others.

    Args:
        names: names of environments; empty: all.

    Returns:
        Exit status.

    Raises:
        ConfigError: an environment does not exist.
    """
    known = list_environments()
    faults = [
        Fault("peers install", name, f"expected some of {', '.join(known)}") for name in names if name not in known
    ]
    if faults:
        raise ConfigError(faults)
    failed = [name for name in names or known if not _create_environment(name)]
    if failed:
        print(f"attnbench: not installed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _create_environment(name: str) -> bool:
    folder = _ENVIRONMENTS_FOLDER / name
    print(f"{folder} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    torch = f"torch=={importlib.metadata.version('torch').partition('+')[0]}"
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        installer = _find_installer(folder)
        subprocess.run([*installer, torch, "numpy", "setuptools", "wheel"], check=True)
        with as_file(_REQUIREMENTS / f"{name}.txt") as requirements:
            # All packages are pinned, dependencies included, since some declare an older torch than they work with.
            subprocess.run([*installer, "--no-deps", "-r", requirements], check=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"attnbench: {name}: {error}", file=sys.stderr)
        return False
    (folder / _READY_FILE).touch()
    return True


def _find_installer(folder: Path) -> list[str | Path]:
    """Return the install command: uv if it exists, else the environment's own pip."""
    python = folder / "bin" / "python"
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    uv = shutil.which("uv", path=path)
    return [python, "-m", "pip", "install", "-q"] if uv is None else [uv, "pip", "install", "-q", "--python", python]
