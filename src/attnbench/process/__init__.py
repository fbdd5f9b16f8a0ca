"""What every command of the project does to its own process: signals, output, exit status, start-up."""
