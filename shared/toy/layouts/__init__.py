"""The toy scenes on disk, in the folders and formats of the data sets they stand for."""

from shared.toy.layouts import bdd100k, cityscapes, detection, gta5, kitti, synthia
from shared.toy.layouts.base import LAYOUTS
from shared.toy.layouts.make import make_toy
from shared.toy.layouts.manifest import is_ready

__all__ = [
    "LAYOUTS",
    "bdd100k",
    "cityscapes",
    "detection",
    "gta5",
    "is_ready",
    "kitti",
    "make_toy",
    "synthia",
]
