"""Install signal handlers and protect output when imported; commands import this module first."""

from __future__ import annotations

from attnbench.process import interrupts
from attnbench.process.output import protect_output

interrupts.ignore_signals_at_exit()
interrupts.install_handlers()
protect_output()
