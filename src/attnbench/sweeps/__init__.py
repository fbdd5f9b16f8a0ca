"""Many runs: planned whole before the first begins, then supervised, a process each."""
