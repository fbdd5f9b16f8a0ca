"""Data: from files or a grammar to batches of token indices. Knows no model."""
