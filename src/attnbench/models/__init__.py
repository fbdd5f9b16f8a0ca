"""Models built from nn/, their decoding, and the builder that creates a model from a config."""
