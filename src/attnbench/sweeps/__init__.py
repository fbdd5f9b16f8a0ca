"""Sweeps: all runs are checked before the first one starts; each run is supervised in its own process."""
