"""Small runs of each task."""

from ..tasks.conftest import SMALL, Small, small

__all__ = ["SMALL", "Small", "small"]
