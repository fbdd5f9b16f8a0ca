"""attnbench: compose, train, track and tabulate attention experiments."""

__version__ = "0.2.0"
