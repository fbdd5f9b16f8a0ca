"""The train door with `sweep_fakes.hydra_run` for a run, and without torch: all but the training is real."""

from __future__ import annotations

import sys

import sweep_fakes
from hydra.core.plugins import Plugins

import attnbench.train
import hydra_plugins.attnbench_launcher as launcher
from attnbench.sweeps.compose import register_schema

if __name__ == "__main__":
    register_schema()
    Plugins.instance()  # now, because it runs the plugin's module once more
    launcher.PRELOAD = ("attnbench.sweeps.preload",)
    attnbench.train.run_task = sweep_fakes.hydra_run
    sys.exit(attnbench.train.main())
