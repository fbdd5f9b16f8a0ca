"""Weights & Biases: runs and their folders, uploading, a sweep's summary run and workspace, and records from W&B."""
