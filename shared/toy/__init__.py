"""Procedural street scenes with complete ground truth, in ten domains.

The default data of the demonstrations and of the tests: no download, any number of frames.
"""

from shared.toy.domains import DOMAINS
from shared.toy.frame import LABEL_IDS, THINGS, ToyFrame, ToyObject
from shared.toy.render import render

__all__ = ["DOMAINS", "LABEL_IDS", "THINGS", "ToyFrame", "ToyObject", "render"]
