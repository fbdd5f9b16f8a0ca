"""The exception for bad data."""


class DataError(Exception):
    """Error in data: one sentence with file and line, what was found and what was expected."""
