"""Importing this package registers every method."""

from seg_adapt.methods import adaptseg, dast, fcn_wild, plca, road, sapnet, source_only
from seg_adapt.methods.base import METHODS

__all__ = ["METHODS", "adaptseg", "dast", "fcn_wild", "plca", "road", "sapnet", "source_only"]
