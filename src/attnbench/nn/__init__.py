"""The parts models are made of: scoring, attention, positions, blocks, initialisation, loss."""
