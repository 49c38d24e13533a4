"""Procedural street scenes with complete ground truth, in ten domains.

The default data of the demonstrations and of the tests: no download, any number of frames.
"""

from shared.toy.crops import render_crops
from shared.toy.frame import EVALUATED, LABEL_IDS, THINGS, ToyFrame, ToyObject
from shared.toy.render import DOMAINS, render
from shared.toy.style import Style
from shared.toy.styles import random_style

__all__ = [
    "DOMAINS",
    "EVALUATED",
    "LABEL_IDS",
    "THINGS",
    "Style",
    "ToyFrame",
    "ToyObject",
    "random_style",
    "render",
    "render_crops",
]
