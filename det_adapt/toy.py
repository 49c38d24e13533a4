"""The toy pairs: their data is made where it is missing."""

import logging
from collections.abc import Sequence

from fvcore.common.config import CfgNode

from det_adapt.data.build import dataset_root
from shared.toy.layouts import is_ready, make_toy

# As many as of the segmentation toy, which shares two of the layouts.
COUNT, VAL_COUNT = 400, 60
LAYOUT_OF = {
    "toy_sim10k": "sim10k",
    "toy_kitti": "kitti",
    "toy_cityscapes_det": "cityscapes",
    "toy_foggy_cityscapes": "cityscapes_foggy",
    "toy_clipart": "clipart",
    "toy_watercolor": "watercolor",
    "toy_voc": "voc",
}

logger = logging.getLogger(__name__)


def layouts(names: Sequence[str]) -> list[str]:
    """The toy layouts that the data sets `names` are read from."""
    found = (
        layout for name in names for start, layout in LAYOUT_OF.items() if name.startswith(start)
    )
    return list(dict.fromkeys(found))


def data_sets(cfg: CfgNode) -> list[str]:
    """All that a run reads."""
    target = cfg.DATASETS.TARGET if cfg.SAP.ENABLED else ()
    return [*cfg.DATASETS.TRAIN, *target, *cfg.DATASETS.TEST]


def is_toy(cfg: CfgNode) -> bool:
    """Whether every data set of a run is one that can be made."""
    return all(layouts([name]) for name in data_sets(cfg))


def ensure_data(cfg: CfgNode) -> None:
    """Makes the toy data sets that the config names and that are not there."""
    root = dataset_root(cfg)
    missing = [name for name in layouts(data_sets(cfg)) if not is_ready(root, name)]
    if missing:
        logger.info("making the toy data (%s) in %s", ", ".join(missing), root / "toy")
        make_toy(root, missing, count=COUNT, val_count=VAL_COUNT)
