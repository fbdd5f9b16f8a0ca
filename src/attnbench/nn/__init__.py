"""Layers that models are built from: scoring, attention, positions, blocks, initialization, loss."""
