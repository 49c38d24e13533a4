"""The toy scenes on disk, in the folders and formats of the data sets they stand for."""

from shared.toy.layouts import bdd100k, cityscapes, detection, gta5, kitti, synthia
from shared.toy.layouts.base import LAYOUTS
from shared.toy.layouts.ensure import ensure, toy_layouts
from shared.toy.layouts.make import make_toy

__all__ = [
    "LAYOUTS",
    "bdd100k",
    "cityscapes",
    "detection",
    "ensure",
    "gta5",
    "kitti",
    "make_toy",
    "synthia",
    "toy_layouts",
]
