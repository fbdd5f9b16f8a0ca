"""Importing this takes signals and protects output: first of all, where a command's own imports take half a second."""

from __future__ import annotations

from attnbench import interrupts
from attnbench.console import protect_output

interrupts.ignore_at_exit()
interrupts.install()
protect_output()
