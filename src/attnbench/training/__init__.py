"""Training of one run, from its config to its record."""
