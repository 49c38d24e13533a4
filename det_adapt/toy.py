"""The toy pairs: their data is made where it is missing."""

from fvcore.common.config import CfgNode

from det_adapt.config import adapts
from shared.data.folders import data_root
from shared.toy.layouts import ensure, toy_layouts

# As many as of the segmentation toy, which shares two of the layouts.
COUNT, VAL_COUNT = 400, 60


def data_sets(cfg: CfgNode) -> list[str]:
    """All that a run reads."""
    target = cfg.DATASETS.TARGET if adapts(cfg) else ()
    return [*cfg.DATASETS.TRAIN, *target, *cfg.DATASETS.TEST]


def is_toy(cfg: CfgNode) -> bool:
    """Whether every data set of a run is one that can be made."""
    return all(toy_layouts([name]) for name in data_sets(cfg))


def ensure_data(cfg: CfgNode) -> None:
    """Makes the toy data sets that the config names and that are not there."""
    ensure(data_sets(cfg), data_root(cfg.DATASETS.ROOT), count=COUNT, val_count=VAL_COUNT)
