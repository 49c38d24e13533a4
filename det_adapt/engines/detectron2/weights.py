"""What MODEL.WEIGHTS names, into a detector, with an account of what went where."""

import logging

from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.config import CfgNode
from torch import nn

from det_adapt.engines.torchvision.names import to_detectron2
from det_adapt.engines.torchvision.weights import LoadReport, fill, stored_weights

logger = logging.getLogger(__name__)


def initialise(model: nn.Module, cfg: CfgNode) -> LoadReport | None:
    """Fills `model` by MODEL.WEIGHTS: '' leaves it, 'torchvision' downloads, all else is a file.

    A file is a checkpoint of either engine, torchvision's own weights, or a .pkl or address that
    Detectron2 knows, which it loads and reports itself.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        return None
    if weights.endswith(".pkl") or "://" in weights:
        DetectionCheckpointer(model).load(weights)
        return None
    report = fill(model, stored_weights(cfg), weights, to_detectron2)
    logger.info("%s: %s", weights, report)
    return report
