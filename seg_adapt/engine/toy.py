"""The embedded default: toy data and toy weights are made where they are missing."""

from pathlib import Path

from fvcore.common.config import CfgNode

from seg_adapt.engine.pretrain import ensure_weights, weights_path
from shared.toy.layouts import ensure

TOY_WEIGHTS = "toy"


def ensure_data(cfg: CfgNode, root: Path) -> None:
    """Makes the toy data sets that the config names and that are not there."""
    names = [cfg.DATASETS[key] for key in ("TRAIN", "TARGET", "TEST")]
    ensure(names, root, count=cfg.DATASETS.TOY_COUNT, val_count=cfg.DATASETS.TOY_VAL_COUNT)


def resolve_weights(cfg: CfgNode, root: Path, *, make: bool) -> str:
    """`MODEL.WEIGHTS`, with `toy` replaced by the file that the pre-training command writes.

    Args:
        make: pre-train now where the file is missing.
    """
    if cfg.MODEL.WEIGHTS != TOY_WEIGHTS:
        return cfg.MODEL.WEIGHTS
    if make:
        ensure_weights(root, cfg.MODEL.ARCHITECTURE, cfg.MODEL.WIDTH)
    return str(weights_path(root, cfg.MODEL.ARCHITECTURE, cfg.MODEL.WIDTH))
