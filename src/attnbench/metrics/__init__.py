"""Plain functions that turn what a run did into numbers; no Lightning."""
