"""Import Lightning in two thirds of the usual time. Importing this module does it; only commands import it.

It affects the process: the garbage collector is off during the import, and imported objects are frozen afterwards.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from lightning_utilities.core import imports


@contextmanager
def _speed_up_imports() -> Iterator[None]:
    """Disable the garbage collector and hide scipy during imports, then freeze the imported objects.

    Imports create no garbage, and later collections need not visit the million objects that they create.
    torchmetrics, which Lightning imports, would load scipy.signal for a function that is not used here (torchmetrics
    1.9).
    """
    is_collecting, names = gc.isenabled(), vars(imports)
    original = {name: names[name] for name in ("package_available", "_version")}

    def version(name: str) -> str:
        if name == "scipy":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    gc.disable()
    names.update(
        package_available=lambda name: name != "scipy" and original["package_available"](name), _version=version
    )
    try:
        yield
    finally:
        names.update(original)
        gc.freeze()
        atexit.register(gc.unfreeze)  # otherwise C bindings report leaks at exit
        if is_collecting:
            gc.enable()


with _speed_up_imports():
    import pytorch_lightning as pytorch_lightning
