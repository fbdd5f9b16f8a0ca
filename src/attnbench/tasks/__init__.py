"""Tasks: what is learned and how it is scored; one module a task. Lightning is imported here first, quickly."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from lightning_utilities.core import imports


@contextmanager
def _quickly() -> Iterator[None]:
    """What is imported meanwhile takes two thirds of its time.

    No garbage is looked for, of which imports leave none, nor later among the million objects that they make. And
    scipy counts as missing: torchmetrics, which Lightning imports, would load scipy.signal to add a name to it.
    """
    collecting, names = gc.isenabled(), vars(imports)
    asked = {name: names[name] for name in ("package_available", "_version")}

    def version(name: str) -> str:
        if name == "scipy":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    gc.disable()
    names.update(package_available=lambda name: name != "scipy" and asked["package_available"](name), _version=version)
    try:
        yield
    finally:
        names.update(asked)
        gc.freeze()
        atexit.register(gc.unfreeze)  # else what they were bound to in C is told to have leaked
        if collecting:
            gc.enable()


with _quickly():
    import pytorch_lightning as pytorch_lightning
