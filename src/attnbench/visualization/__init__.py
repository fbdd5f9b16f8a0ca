"""Figures of attention weights and confusion matrices, from arrays. Imports no model and no Lightning."""
