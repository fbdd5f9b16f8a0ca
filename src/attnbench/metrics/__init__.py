"""Metrics as plain functions, without Lightning."""
