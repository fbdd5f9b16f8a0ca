"""Data: from files or a grammar to batches of token indices or images. Imports no model."""
