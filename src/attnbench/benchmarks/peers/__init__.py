"""Contenders: a script each, which runs in an environment of its own and imports no more of attnbench than is here."""
