"""Importing this takes signals and protects output: first of all, where a command's own imports take half a second."""

from __future__ import annotations

from attnbench.process import interrupts
from attnbench.process.output import protect_output

interrupts.ignore_signals_at_exit()
interrupts.install_handlers()
protect_output()
