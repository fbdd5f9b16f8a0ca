"""Last import of a sweep's fork server, before runs are forked from it."""

from __future__ import annotations

import atexit
import contextlib
import gc

from hydra.core.plugins import Plugins

import attnbench.sweeps.hydra_job  # noqa: F401
from attnbench.sweeps.compose import register_schema

with contextlib.suppress(Exception):  # an invalid WANDB_... variable must not end a run
    import wandb.sdk.launch.inputs.internal  # noqa: F401  # all of the default tracker; it starts no thread as yet
register_schema()
Plugins.instance()
# Otherwise the first garbage collection of each run visits all imported objects, which takes longer than the rest of
# its start, and writes to their pages, so that processes no longer share them.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # otherwise libraries report leaks at exit
