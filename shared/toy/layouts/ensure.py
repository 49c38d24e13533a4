"""Makes the toy data sets that a run names and that are not there yet."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from shared.toy.layouts.make import make_toy
from shared.toy.layouts.manifest import FOLDER, is_ready

# Name of a data set without its split → the layout that it is read from.
LAYOUT_OF = {
    "toy_game": "gta5",
    "toy_synthia": "synthia",
    "toy_real": "cityscapes",
    "toy_summer": "synthia_seqs",
    "toy_fall": "synthia_seqs",
    "toy_winter": "synthia_seqs",
    "toy_bdd100k": "bdd100k",
    "toy_sim10k": "sim10k",
    "toy_kitti": "kitti",
    "toy_cityscapes_det": "cityscapes",
    "toy_foggy_cityscapes": "cityscapes_foggy",
    "toy_clipart": "clipart",
    "toy_watercolor": "watercolor",
    "toy_voc2007": "voc",
    "toy_voc2012": "voc",
    "toy_voc0712": "voc",
}
_SPLIT = re.compile(r"_(train|val|test|trainval|traintest)(_polygons|_beta_.+)?$")

logger = logging.getLogger(__name__)


def toy_layouts(names: Sequence[str]) -> list[str]:
    """The toy layouts that the data sets `names` are read from; other data sets have none."""
    stems = [_SPLIT.sub("", name) for name in names]
    return list(dict.fromkeys(LAYOUT_OF[stem] for stem in stems if stem in LAYOUT_OF))


def ensure(names: Sequence[str], root: Path, *, count: int, val_count: int) -> None:
    """Makes the toy data sets among `names` that `root` lacks; what is there keeps its size."""
    missing = [name for name in toy_layouts(names) if not is_ready(root, name)]
    if missing:
        logger.info("making the toy data (%s) in %s", ", ".join(missing), root / FOLDER)
        make_toy(root, missing, count=count, val_count=val_count)
