"""The whole schema: dataclasses, Enums and what they refuse. Imports no torch."""

from attnbench.config.fields import ConfigError, Fault
from attnbench.config.root import Config, check

__all__ = ["Config", "ConfigError", "Fault", "check"]
