"""Models: networks put together from nn/, how they are decoded, and how a config becomes one."""
