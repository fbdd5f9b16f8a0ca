"""Weights & Biases: runs and their folders, uploads, a sweep's summary run and workspace, import of records."""
