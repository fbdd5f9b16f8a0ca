"""What `attnbench bench` measures: suites of rows, each a ratio to a baseline of the same run."""
