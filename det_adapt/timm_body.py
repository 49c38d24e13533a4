"""Networks of timm under a feature pyramid: MODEL.BACKBONE.NAME build_timm_fpn_backbone. Knows no
engine."""

from collections.abc import Mapping

import torch
from fvcore.common.config import CfgNode

from shared.errors import UserError
from shared.timm_levels import Levels, feature_info, find_levels
from shared.timm_networks import create_network, data_config, freeze_batch_norm

TIMM = "build_timm_fpn_backbone"
_STRIDES = (4, 8, 16, 32)


def timm_body(cfg: CfgNode) -> Levels:
    """The feature levels of `MODEL.TIMM.NAME` up to stride 32; its BatchNorm is frozen."""
    name = cfg.MODEL.TIMM.NAME
    if not name:
        raise UserError(f"MODEL.TIMM.NAME is empty: {TIMM} needs a network, e.g. resnet50")
    with torch.device("cpu"):  # the order of its modules is found by running them
        network = create_network(name, None)
        strides = [level["reduction"] for level in feature_info(network)]
        deepest = [n for n, stride in enumerate(strides) if stride == _STRIDES[-1]]
        found = find_levels(network, deepest[-1]) if deepest else None
        if found is None:
            raise UserError(
                f"timm's {name} gives no maps one after another up to stride {_STRIDES[-1]} (its "
                f"levels have {', '.join(map(str, strides))}): choose a convolutional network"
            )
        for stage in found.stages.values():
            freeze_batch_norm(stage)
    for stage in found.stages.values():
        stage.to(torch.get_default_device())
    return found


def pyramid_levels(cfg: CfgNode, strides: Mapping[str, int]) -> list[str]:
    """`MODEL.FPN.IN_FEATURES`; where that is empty, the levels at strides 4 to 32.

    Args:
        strides: of each level.
    """
    deepest = {stride: name for name, stride in strides.items()}  # the last of its stride
    return list(cfg.MODEL.FPN.IN_FEATURES) or [deepest[s] for s in _STRIDES if s in deepest]


def pixel_statistics(cfg: CfgNode) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels: of a network of timm, those that it was trained with."""
    if cfg.MODEL.BACKBONE.NAME != TIMM:
        return list(cfg.MODEL.PIXEL_MEAN), list(cfg.MODEL.PIXEL_STD)
    if cfg.INPUT.FORMAT != "RGB":
        raise UserError("INPUT.FORMAT is BGR, and networks of timm were trained on RGB")
    mean, std = data_config(cfg.MODEL.TIMM.NAME)
    return [255 * value for value in mean], [255 * value for value in std]
