"""The one error of bad data."""


class DataError(Exception):
    """Data that is refused: one sentence with file and line, what was found and what was expected."""
