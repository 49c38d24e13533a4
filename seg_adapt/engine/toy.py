"""The embedded default: toy data and toy weights are made where they are missing."""

import logging
from pathlib import Path

from fvcore.common.config import CfgNode

from seg_adapt.engine.pretrain import ensure_weights, weights_path
from shared.toy.layouts import is_ready, make_toy

TOY_WEIGHTS = "toy"
LAYOUT_OF = {
    "toy_game": "gta5",
    "toy_synthia": "synthia",
    "toy_real": "cityscapes",
    "toy_summer": "synthia_seqs",
    "toy_fall": "synthia_seqs",
    "toy_winter": "synthia_seqs",
    "toy_bdd100k": "bdd100k",
}

logger = logging.getLogger(__name__)


def ensure_data(cfg: CfgNode, root: Path) -> None:
    """Makes the toy data sets that the config names and that are not there."""
    names = [cfg.DATASETS[key] for key in ("TRAIN", "TARGET", "TEST")]
    toys = [name.removesuffix("_train").removesuffix("_val") for name in names]
    layouts = dict.fromkeys(LAYOUT_OF[name] for name in toys if name in LAYOUT_OF)
    missing = [name for name in layouts if not is_ready(root, name)]
    if missing:
        logger.info("making the toy data (%s) in %s", ", ".join(missing), root / "toy")
        make_toy(root, missing, count=cfg.DATASETS.TOY_COUNT, val_count=cfg.DATASETS.TOY_VAL_COUNT)


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
