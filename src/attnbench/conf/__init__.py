"""Hydra's groups: values only. The schema is attnbench.config."""
