"""The toy scenes on disk, in the folders and formats of the data sets they stand for."""

from shared.toy.layouts import detection, segmentation
from shared.toy.layouts.base import LAYOUTS
from shared.toy.layouts.make import ensure, make_toy, toy_layouts

__all__ = ["LAYOUTS", "detection", "ensure", "make_toy", "segmentation", "toy_layouts"]
