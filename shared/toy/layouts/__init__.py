"""The toy scenes on disk, in the folders and formats of the data sets they stand for."""

from shared.toy.layouts import bdd100k, cityscapes, detection, gta5, kitti, synthia
from shared.toy.layouts.base import LAYOUTS
from shared.toy.layouts.make import ensure_toy, make_toy

__all__ = [
    "LAYOUTS",
    "bdd100k",
    "cityscapes",
    "detection",
    "ensure_toy",
    "gta5",
    "kitti",
    "make_toy",
    "synthia",
]
