"""Last import of a sweep's fork server, before runs are forked from it."""

from __future__ import annotations

import atexit
import contextlib
import gc

from hydra.core.plugins import Plugins

import attnbench.sweeps.hydra_job  # noqa: F401
from attnbench.sweeps.compose import register_schema

with contextlib.suppress(Exception):  # a variable of W&B's that it does not take costs no run
    import wandb.sdk.launch.inputs.internal  # noqa: F401  # all of the default tracker; it starts no thread as yet
register_schema()
Plugins.instance()
# Else the first collection in each run walks over everything that is imported, which takes longer than the rest of
# its start; and writes to it, so that no page of memory is shared any more.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # libraries that look for leaks at the end find none
