"""Where other toolkits live: a virtual environment each, for their requirements exclude each other."""

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

_FOLDER = Path(".cache", "attnbench", "peers")
_REQUIREMENTS = files("attnbench.benchmarks") / "peers" / "requirements"
_READY = ".ready"  # written when all is installed


def names() -> list[str]:
    """Every environment that there are requirements of."""
    return sorted(item.name.removesuffix(".txt") for item in _REQUIREMENTS.iterdir() if item.name.endswith(".txt"))


def python_of(name: str) -> Path | None:
    """The interpreter of an environment; None: it is not installed."""
    folder = _FOLDER / name
    return (folder / "bin" / "python").absolute() if (folder / _READY).is_file() else None


def install(wanted: Sequence[str]) -> int:
    """Make the environments `wanted` (none: all), each with this project's own version of torch; the exit status.

    One that cannot be made does not stop the others.

    Raises:
        ConfigError: there is no such environment.
    """
    known = names()
    faults = [
        Fault("peers install", name, f"expected some of {', '.join(known)}") for name in wanted if name not in known
    ]
    if faults:
        raise ConfigError(faults)
    failed = [name for name in wanted or known if not _make(name)]
    if failed:
        print(f"attnbench: not installed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _make(name: str) -> bool:
    folder = _FOLDER / name
    print(f"{folder} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    torch = f"torch=={importlib.metadata.version('torch').partition('+')[0]}"
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        installer = _installer(folder)
        subprocess.run([*installer, torch, "numpy", "setuptools", "wheel"], check=True)
        with as_file(_REQUIREMENTS / f"{name}.txt") as requirements:
            # All is pinned, what it needs included: some declare an older torch than they run with.
            subprocess.run([*installer, "--no-deps", "-r", requirements], check=True)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"attnbench: {name}: {error}", file=sys.stderr)
        return False
    (folder / _READY).touch()
    return True


def _installer(folder: Path) -> list[str | Path]:
    """How to install into `folder`: by uv where there is one, for it is quick; else by the environment's own pip."""
    python = folder / "bin" / "python"
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    uv = shutil.which("uv", path=path)
    return [python, "-m", "pip", "install", "-q"] if uv is None else [uv, "pip", "install", "-q", "--python", python]
