"""The whole schema: dataclasses, Enums and what they refuse. Imports no torch."""

from attnbench.config.fields import ConfigError, Fault
from attnbench.config.root import Config, validate_config

__all__ = ["Config", "ConfigError", "Fault", "validate_config"]
