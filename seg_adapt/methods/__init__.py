"""Importing this package registers every method."""

from seg_adapt.methods import adaptseg, road, source_only
from seg_adapt.methods.base import METHODS

__all__ = ["METHODS", "adaptseg", "road", "source_only"]
