"""SAPNet on Detectron2: importing this registers backbone, meta-architecture and data sets."""

from det_adapt.engines.detectron2.backbone import VGG16, build_vgg16_backbone
from det_adapt.engines.detectron2.catalog import register, to_dicts
from det_adapt.engines.detectron2.config import add_sap_config, defaults
from det_adapt.engines.detectron2.sap_rcnn import SAPRCNN
from det_adapt.engines.detectron2.trainer import Training, build_optimizer

__all__ = [
    "SAPRCNN",
    "VGG16",
    "Training",
    "add_sap_config",
    "build_optimizer",
    "build_vgg16_backbone",
    "defaults",
    "to_dicts",
]

register()
